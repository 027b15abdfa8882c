"""The broker campaign on aedes, which shares no code with Mosquitto: its version 0.51 for MQTT 3.1.1, 2 for MQTT 5.

It acknowledges a message before it passes it on and keeps nothing over a restart. With 3.1.1 it cuts off who publishes
what is forbidden, where Mosquitto drops it, and refuses MQTT 5 in its answer to the connect packet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import client as paho

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord
from gateway.publishing.publisher import Publisher
from tests.support.aedes import aedes
from tests.support.campaign import SMALL, exact, fill, take_over, told
from tests.support.destination import ENTERPRISE, Plant, delivered, make_certificates, running, state_of
from tests.support.fakelog import NOW
from tests.support.interop import InteropServer
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

Version = str | int

LOGIN = {"name": "gw", "password": "mine"}
OLD: Version = "3.1.1"

both = pytest.mark.parametrize("version", [OLD, 5])


def receiver(broker: InteropServer, **keys: Any) -> Subscriber:
    return Subscriber(broker.port, version=paho.MQTTv311, **keys)


def publisher_of(plant: Plant, broker: InteropServer, version: Version, **keys: Any) -> Publisher:
    return plant.publisher(broker.port, **{"mqtt": version, "batch": SMALL} | keys)


async def test_a_broker_that_speaks_3_1_1_alone_refuses_5_with_advice() -> None:
    async with aedes() as broker, running(publisher_of(Plant(), broker, 5)) as newer:
        await eventually(lambda: "set `mqtt: 3.1.1`" in state_of(newer)[1])


@both
async def test_everything_arrives_once(version: Version) -> None:
    plant = Plant()
    end = fill(plant, 50)
    async with aedes(mqtt=version) as broker:
        with receiver(broker) as centre:
            async with running(publisher_of(plant, broker, version)) as publisher:
                await eventually(lambda: delivered(publisher, end))
            await eventually(lambda: any(m.document.get("reason") == "stopped" for m in centre.of("status/1")))
        assert centre.offsets() == dict.fromkeys(range(end), 1)
        assert not centre.errors
        with receiver(broker, topic="+/+/+/+/+/catalogue/#") as late:
            await eventually(lambda: late.of("catalogue/1"), message="the retained catalogue")
    exact(publisher, delivered=end)


@both
async def test_a_refused_login_is_told_once_and_ends_when_it_is_mended(
    version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    plant = Plant()
    end = fill(plant, 20)
    async with aedes(mqtt=version, users={"gw": "other"}) as broker:
        async with running(publisher_of(plant, broker, version, user=LOGIN)) as publisher:
            await eventually(lambda: "check `user`" in state_of(publisher)[1])
            assert state_of(publisher)[0] == "refused"
            await broker.tell("users", users={"gw": "mine"})
            with receiver(broker, user="gw", password="mine") as centre:
                await eventually(lambda: delivered(publisher, end))
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        exact(publisher, delivered=end)
    assert told(caplog, "check `user`") == 1


@both
async def test_a_forbidden_topic_is_told_once_and_costs_nothing(
    version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    word = "down" if version == OLD else "refused"
    plant = Plant()
    async with aedes(mqtt=version) as broker:

        async def tried_again() -> bool:
            return bool((await broker.tell("seen"))["clients"].get(f"{ENTERPRISE}-gw-1-centre", 0) > 2)

        await broker.tell("deny", topics="/readings$")
        with receiver(broker) as centre:
            end = fill(plant, 20)
            async with running(publisher_of(plant, broker, version)) as publisher:
                await eventually(tried_again)
                await eventually(lambda: state_of(publisher)[0] == word)
                assert publisher.statistics().total.delivered == 0
                await broker.tell("deny", topics=None)
                await eventually(lambda: delivered(publisher, end))
            await eventually(lambda: set(centre.offsets()) == set(range(end)))
    exact(publisher, delivered=end)
    assert (told(caplog, f"centre: {word}"), told(caplog, "centre: online")) == (1, 2)


@both
async def test_messages_keep_the_size_and_what_does_not_fit_is_set_aside(version: Version) -> None:
    """With 3.1.1 the config says the size, with 5 the broker does."""
    plant = Plant()
    end = fill(plant, 50)
    values = np.empty(1, object)
    values[:] = ["x" * 5000]
    batch = Batch.of("boiler-1", ValueType.STRING, [0], values, received_time=NOW, monotonic=0)
    plant.log.append(BatchRecord("S1", batch))
    keys: dict[str, Any] = {"batch": {"max_wait": "20ms"}} | ({"max_packet": "3KB"} if version == OLD else {})
    async with aedes(mqtt=version, limits={"maximumPacketSize": 3000}) as broker:
        with receiver(broker) as centre:
            async with running(publisher_of(plant, broker, version, **keys)) as publisher:
                await eventually(lambda: delivered(publisher, end))
                await eventually(lambda: publisher.statistics().total.parked == 1)
            await eventually(lambda: set(centre.offsets()) == set(range(end)))
        assert (await broker.tell("seen"))["largest"] < 3000
    exact(publisher, delivered=end, parked=1)


@both
async def test_a_session_that_others_take_over_loses_nothing(
    version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    plant = Plant()
    end = fill(plant, 20)
    async with aedes(mqtt=version) as broker:
        with receiver(broker) as centre:
            async with running(publisher_of(plant, broker, version)) as publisher:
                await eventually(lambda: delivered(publisher, end))
                await asyncio.to_thread(take_over, broker.port, paho.MQTTv311 if version == OLD else paho.MQTTv5)
                await eventually(lambda: told(caplog, "centre: down"))
                end = fill(plant, 20, end)
                await eventually(lambda: delivered(publisher, end))
            await eventually(lambda: set(centre.offsets()) == set(range(end)))
    exact(publisher, delivered=end)
    assert told(caplog, "another client uses the same client id") == 1


@both
async def test_a_broker_that_dies_and_comes_back_with_nothing(version: Version) -> None:
    plant = Plant()
    async with aedes(mqtt=version) as broker:
        with receiver(broker) as centre:
            async with running(publisher_of(plant, broker, version)) as publisher:
                end = fill(plant, 30)
                # What it acknowledged and has not passed on would be its loss: here it has passed it on.
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
                centre.forget()
                await broker.kill()
                end = fill(plant, 30, end)
                await eventually(lambda: state_of(publisher)[0] == "down")
                await broker.start()
                centre.resubscribed()
                await eventually(lambda: delivered(publisher, end))
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        with receiver(broker, topic="+/+/+/+/+/catalogue/#") as late:
            await eventually(lambda: late.of("catalogue/1"), message="the catalogue anew")
    exact(publisher, delivered=end)


async def test_encrypted(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    plant = Plant()
    end = fill(plant, 50)
    async with aedes(mqtt=5, certificate=str(certificate), key=str(key)) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        async with running(publisher_of(plant, broker, 5, url=url)) as untrusting:
            await eventually(lambda: "check `tls: ca`" in state_of(untrusting)[1])
        async with running(publisher_of(plant, broker, 5, url=url, tls={"ca": str(ca)})) as publisher:
            await eventually(lambda: delivered(publisher, end))
    exact(publisher, delivered=end)
