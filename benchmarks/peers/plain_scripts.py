"""The same work as a plain script does it: asyncua or pymodbus -> orjson -> paho with QoS 1. Nothing is durable.

    python -m benchmarks.peers.plain_scripts opcua --url opc.tcp://127.0.0.1:4840 --points 1000 --broker-port 1883
    python -m benchmarks.peers.plain_scripts modbus --ports 5020,5021 --points 5000 --every 1 --broker-port 1883

What an engineer writes in forty lines: a subscription handler or a poll loop, one list of readings, one message every
200 ms. `n` and `count` are there so that the receiver can count; the script would not need them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import paho.mqtt.client as mqtt
from asyncua.client.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pymodbus.client import AsyncModbusTcpClient

from benchmarks.rig import control

FLUSH_S: Final = 0.2
MOST: Final = 2500
"""readings per message, about 200 kB"""
BLOCK: Final = 124
"""registers per request: 62 floats"""


class Sender:
    """Gathers readings and publishes them."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._n: dict[str, int] = {}
        self.readings: dict[str, list[dict[str, Any]]] = {}
        self.sent = 0

    def flush(self) -> None:
        """Publish what was gathered."""
        for device, readings in self.readings.items():
            for start in range(0, len(readings), MOST):
                part = readings[start : start + MOST]
                n = self._n.get(device, 0)
                self._n[device] = n + len(part)
                head = {"schema": "plain/1", "stream": "plain", "device": device, "n": n, "count": len(part)}
                self._client.publish(f"bench/{device}/readings", orjson.dumps({**head, "readings": part}), qos=1)
                self.sent += len(part)
            self.readings[device] = []

    def snapshot(self) -> dict[str, Any]:
        """Counts so far."""
        return {"sent": self.sent, "cpu_s": control.cpu_s(), "time": time.monotonic()}


class Handler:
    """asyncua calls this for every value."""

    def __init__(self, readings: dict[str, list[dict[str, Any]]]) -> None:
        self._readings = readings
        readings["plain"] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """See asyncua's SubHandler."""
        time = data.monitored_item.Value.SourceTimestamp
        point = f"p{node.nodeid.Identifier}"
        self._readings["plain"].append({"p": point, "t": time.isoformat().replace("+00:00", "Z"), "v": value})


async def opcua(url: str, points: int, sender: Sender) -> None:
    """Subscribe and publish for ever."""
    logging.getLogger("asyncua").setLevel(logging.WARNING)
    handler = Handler(sender.readings)
    async with Client(url, timeout=30) as client:
        subscription = await client.create_subscription(100, handler)
        nodes = [client.get_node(f"ns=1;i={item}") for item in range(points)]
        for start in range(0, points, 1000):
            await subscription.subscribe_data_change(nodes[start : start + 1000], queuesize=100)
        while True:
            await asyncio.sleep(FLUSH_S)
            sender.flush()


async def poll(port: int, points: int, every_s: float, sender: Sender) -> None:
    """Read one device's floats every `every_s` for ever."""
    device = f"plain{port}"
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        readings: list[dict[str, Any]] = []
        for start in range(0, 2 * points, BLOCK):
            count = min(BLOCK, 2 * points - start)
            reply = await client.read_holding_registers(start, count=count)
            values: Any = client.convert_from_registers(reply.registers, client.DATATYPE.FLOAT32)
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            first = start // 2
            readings += [{"p": f"p{first + k}", "t": now, "v": value} for k, value in enumerate(values)]
        sender.readings[device] = readings
        sender.flush()
        due = max(due + every_s, loop.time())
        await asyncio.sleep(due - loop.time())


async def modbus(ports: list[int], points: int, every_s: float, sender: Sender) -> None:
    """Poll all devices at the same time for ever."""
    async with asyncio.TaskGroup() as group:
        for port in ports:
            group.create_task(poll(port, points, every_s, sender), name=f"poll {port}")


async def run(arguments: argparse.Namespace) -> None:
    """Publish until standard input ends."""
    sender = Sender(arguments.broker_port)
    if arguments.protocol == "opcua":
        work = opcua(arguments.url, arguments.points, sender)
    else:
        ports = [int(port) for port in arguments.ports.split(",")]
        work = modbus(ports, arguments.points, arguments.every, sender)
    task = asyncio.create_task(work, name="script")
    control.say({"started": arguments.protocol})
    await control.serve({"stats": sender.snapshot}, arguments.seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=("opcua", "modbus"))
    parser.add_argument("--url", default="")
    parser.add_argument("--ports", default="")
    parser.add_argument("--points", type=int, required=True, help="per device")
    parser.add_argument("--every", type=float, default=1.0, help="s between polls; 0 = without a pause")
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=None)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
