"""Nothing above a destination's clearance leaves: as reading, catalogue, event, account, health or status."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from simulators.plant.faults import Fault
from simulators.plant.modbus import ModbusDevice
from tests.support.broker import Mosquitto
from tests.support.rig import START_S, GatewayProcess
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually


def device_file(device: ModbusDevice, name: str, *points: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {
        "device": name,
        "adapter": "modbus",
        "connection": {"url": device.url, "timeout": "60s"},
        "every": "50ms",
        "points": list(points),
        **keys,
    }


async def test_nothing_above_the_clearance_is_on_the_wire(tmp_path: Path) -> None:
    async with ModbusDevice({"holding": {0: 1, 1: 31337, 2: 31337}}) as device:
        open_point = {"point": "open", "address": "holding 0", "type": "uint16"}
        graded = {"point": "SECRET_grade", "address": "holding 1", "type": "uint16", "governance": {"grade": 2}}
        core = {"point": "SECRET_class", "address": "holding 2", "type": "uint16", "governance": {"class": "core"}}
        mixed = device_file(device, "mixed", open_point, graded, core)
        secret = device_file(device, "SECRET_device", open_point, governance={"grade": 2})
        with Mosquitto() as broker, Subscriber(broker.port) as centre:
            destination = {
                "name": "low",
                "url": broker.url,
                "topic": "t/{gateway}",
                "max_grade": 1,
                "classes": ["general"],
                "batch": {"max_wait": "100ms"},
                "health": "10s",
            }
            with GatewayProcess(tmp_path, [mixed, secret], destinations=[destination]) as gateway:
                gateway.start()
                await eventually(lambda: centre.of("readings/1") and centre.of("health/1"), START_S)
                await device.set_fault(Fault.REFUSE)
                await eventually(
                    lambda: centre.of("gap/1"), START_S, "the gap of the mixed device is told to the low one"
                )
                await device.set_fault(Fault.NONE)
                await eventually(lambda: any(message.document["to"] for message in centre.of("gap/1")), START_S)
                await eventually(
                    lambda: gateway.metric("edge_gateway_account_withheld_total", destination="low") > 20, START_S
                )
                assert await asyncio.to_thread(gateway.stop) == 0, gateway.output
            await eventually(lambda: centre.of("account/1"), START_S)
            assert centre.errors == []
            for message in centre.messages:
                text = message.topic.encode() + orjson.dumps(message.document)
                assert b"SECRET" not in text, text
                assert b"31337" not in text, text
            streams = {message.document["stream"] for message in centre.of("readings/1")}
            assert len(streams) == 1
            (account,) = centre.of("account/1")
            assert {entry["stream"] for entry in account.document["entries"]} == streams
            assert {entry["device"] for entry in account.document["entries"]} == {"mixed", "_events"}
