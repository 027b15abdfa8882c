"""The short way for QoS 1 messages through paho's client, to a real Mosquitto over every transport."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho

from gateway.publishing.client import Acknowledgement, Client
from gateway.publishing.config import DestinationConfig
from gateway.publishing.errors import BrokerError
from gateway.publishing.login import Login
from gateway.publishing.mqtt import Connection, Will, publish_properties
from tests.support.broker import Mosquitto, free_port
from tests.support.destination import listener
from tests.support.listener import Listener
from tests.support.wait import eventually

SIZES = (0, 1, 126, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 6_000_000)
"""the bounds of a length's bytes (MQTT 5, table 2-1), and one that no socket takes at once"""


class Heard(Listener):
    """Topics and payloads, in the order of arrival."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "#", None, version=paho.MQTTv5)
        self.messages: list[tuple[str, bytes]] = []

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload))


class Rig:
    def __init__(self, connection: Connection, client: Client, mqtt: str, acknowledged: list[Acknowledgement]) -> None:
        self.connection, self.client, self.acknowledged = connection, client, acknowledged
        self.properties = publish_properties(5 if mqtt == "5" else mqtt, "readings/1", "none")

    def publish(self, topic: str, payload: bytes) -> int:
        return self.connection.publish(topic, payload, False, self.properties)


@asynccontextmanager
async def connected(port: int, scheme: str = "mqtt", mqtt: str = "5", tls: Any = None) -> AsyncIterator[Rig]:
    config = DestinationConfig.model_validate(
        {
            "name": "centre",
            "url": f"{scheme}://127.0.0.1:{port}",
            "mqtt": 5 if mqtt == "5" else mqtt,
            "max_grade": 2,
            "tls": tls,
            "batch": {"max_bytes": "256KB"},
            **({} if mqtt == "5" else {"max_packet": "8MB"}),
        }
    )
    acknowledged: list[Acknowledgement] = []
    connection = Connection(
        config,
        config.brokers[0],
        Login("gateway"),
        Will("t/status", b"{}"),
        acknowledged.extend,
        lambda error: None,
    )
    async with connection:
        yield Rig(connection, connection._client, mqtt, acknowledged)
        connection.orderly = True


@pytest.mark.parametrize("mqtt", ["5", "3.1.1"])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_every_message_of_a_turn_arrives_whole_and_in_order(scheme: str, mqtt: str, tmp_path: Path) -> None:
    port = free_port()
    options, tls = listener(scheme, port, tmp_path)
    sent = [(f"t/{k}", random.Random(k).randbytes(size)) for k, size in enumerate(SIZES)]
    sent += [(f"t/small/{k}", b"%d" % k) for k in range(3000)]
    async with Mosquitto(options=[*options, "max_inflight_messages 0", "max_queued_messages 0"]) as broker:
        with Heard(broker.port) as heard:
            async with connected(port, scheme, mqtt, tls) as rig:
                ids = [rig.publish(topic, payload) for topic, payload in sent]
                await eventually(lambda: len(rig.acknowledged) == len(sent), 60)
            await eventually(lambda: len(heard.messages) >= len(sent), 60)
    assert heard.messages[: len(sent)] == sent
    assert sorted(mid for mid, _ in rig.acknowledged) == sorted(set(ids))
    assert {code for _, code in rig.acknowledged} == {0}


async def test_an_identifier_in_use_is_passed_over() -> None:
    async with Mosquitto() as broker:
        with Heard(broker.port):
            async with connected(broker.port) as rig:
                rig.client._last_mid = 65_533
                rig.client._open = {65_535, 1, 2}
                assert [rig.publish("t", b"x") for _ in range(3)] == [65_534, 3, 4]
                await eventually(lambda: len(rig.acknowledged) == 3)
    assert [mid for mid, _ in rig.acknowledged] == [65_534, 3, 4]
    assert rig.client._open == {65_535, 1, 2}


async def test_the_reason_of_a_refusal_comes_through(tmp_path: Path) -> None:
    """0x10: nobody subscribes. 0x95 is not listed for a PUBACK (MQTT 5, 3.4.2.1), and Mosquitto sends it."""
    async with Mosquitto(options=["message_size_limit 1000"]) as broker, connected(broker.port) as rig:
        rig.publish("t", b"small")
        rig.publish("t", bytes(2000))
        await eventually(lambda: len(rig.acknowledged) == 2)
    assert [code for _, code in rig.acknowledged] == [0x10, 0x95]


async def test_after_the_connection_is_lost_nothing_is_taken() -> None:
    async with Mosquitto() as broker, connected(broker.port) as rig:
        broker.kill()
        await eventually(lambda: rig.client.socket() is None)
        with pytest.raises(BrokerError, match="connection lost"):
            rig.publish("t", b"x")


@contextmanager
def descriptors_taken(folder: Path, count: int) -> Iterator[None]:
    """What is opened inside has a number beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2 * count, hard)), hard))
    taken = [os.open(folder, os.O_RDONLY) for _ in range(count)]
    try:
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_descriptors_above_1023(tmp_path: Path) -> None:
    """select() cannot watch them, and a gateway with a thousand devices has them before its broker comes back."""
    async with Mosquitto() as broker:
        with Heard(broker.port) as heard, descriptors_taken(tmp_path, 1100):
            async with connected(broker.port) as rig:
                link = rig.client.socket()
                assert link is not None
                assert link.fileno() > 1023
                rig.publish("t", b"x")
                await eventually(lambda: len(rig.acknowledged) == 1)
            await eventually(lambda: ("t", b"x") in heard.messages)
