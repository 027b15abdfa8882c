"""What a ThingsBoard platform says to a gateway that connects: that it has no rate limits.

    python -m benchmarks.peers.thingsboard_platform --broker-port 1883

The gateway asks for the limits of its session and holds its data until it is told; a plain broker does not answer. The
answer is that of a platform whose administrator has set no limits: messages of up to 65,536 bytes, 100 in flight (see
`getSessionLimits` in ThingsBoard's MQTT gateway API).
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from typing import Any, Final

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.rig import control

CLIENT_ID: Final = "thingsboard-platform"
KEEP_S: Final = 3600
REQUESTS: Final = "v1/devices/me/rpc/request/"
RESPONSES: Final = "v1/devices/me/rpc/response/"
LIMITS: Final = orjson.dumps(
    {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}
)


def on_connect(client: mqtt.Client, *_: Any) -> None:
    """See paho."""
    client.subscribe(f"{REQUESTS}+", qos=1)


def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
    """Answer the one question."""
    if orjson.loads(message.payload).get("method") == "getSessionLimits":
        client.publish(RESPONSES + message.topic.removeprefix(REQUESTS), LIMITS, qos=1)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-port", type=int, required=True)
    arguments = parser.parse_args()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, CLIENT_ID, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect, client.on_message = on_connect, on_message
    client.reconnect_delay_set(1, 1)
    # A platform is its own broker: a question never comes too early. A broker that keeps sessions keeps it for us.
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = KEEP_S
    client.connect("127.0.0.1", arguments.broker_port, clean_start=False, properties=session)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.loop_start()
    subscribed.wait()
    control.say({"broker": arguments.broker_port})
    asyncio.run(control.serve({}, None))


if __name__ == "__main__":
    main()
