"""Ways to a broker: several in order, websockets, certificates that are renewed or expire, MQTT 3.1.1 with a size."""

from __future__ import annotations

import gc
import hmac
import logging
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord
from tests.support.broker import Mosquitto, free_port
from tests.support.destination import Plant, delivered, make_certificates, running, state_of
from tests.support.fakelog import NOW, readings
from tests.support.scripted_broker import Connect, ScriptedBroker
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

AGAIN_S = 60.0
"""a broker is tried again within 30 s, the longest pause"""


def online(messages: list[str]) -> list[str]:
    return [message for message in messages if "online at" in message]


async def test_the_next_broker_is_used_when_the_first_is_away_and_the_first_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    plant = Plant()
    plant.log.append(readings(10))
    first, second = Mosquitto(), Mosquitto()
    async with second:
        publisher = plant.publisher(first, alternatives=["mqtt://127.0.0.1:1", second.url])
        with Subscriber(second.port) as there:
            async with running(publisher):
                await eventually(lambda: delivered(publisher, 10))
                await eventually(lambda: set(there.offsets()) == set(range(10)))
                assert publisher.statistics().broker == f"127.0.0.1:{second.port}"
                assert online(caplog.messages) == [f"destination centre: online at 127.0.0.1:{second.port}"]
                async with first:
                    with Subscriber(first.port) as here:
                        there.forget()
                        second.kill()
                        plant.log.append(readings(10, start=10))
                        await eventually(lambda: delivered(publisher, 20), AGAIN_S)
                        assert publisher.statistics().broker == f"127.0.0.1:{first.port}"
                        await eventually(lambda: set(here.offsets()) == set(range(10, 20)))
                        first.kill()
                        await eventually(lambda: state_of(publisher)[0] == "down")
                        plant.log.append(readings(10, start=20))
                        # All are away: one state, which names every one of them, and one line.
                        await eventually(lambda: state_of(publisher)[1].count("nothing listens") == 3, AGAIN_S)
                        assert publisher.statistics().broker == ""
                        assert sum("centre: down" in message for message in caplog.messages) == 2
                        second.start()
                        there.resubscribed()
                        await eventually(lambda: delivered(publisher, 30), AGAIN_S)
            await eventually(lambda: set(there.offsets()) == {*range(10), *range(20, 30)})
    assert publisher.statistics().total.unbalanced == 0


async def test_a_broker_that_refuses_the_login_is_passed_over() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto(users={"gw": "other"}) as first, Mosquitto() as second:
        with Subscriber(second.port):
            user = {"name": "gw", "password": "mine"}
            async with running(plant.publisher(first, alternatives=[second.url], user=user)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
                assert state_of(publisher) == ("online", "")


@pytest.mark.parametrize("encrypted", [False, True])
async def test_over_websockets(tmp_path: Path, encrypted: bool) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    port = free_port()
    options = [f"listener {port} 127.0.0.1", "protocol websockets"]
    if encrypted:
        options += [f"certfile {certificate}", f"keyfile {key}"]
    plant = Plant()
    async with Mosquitto(options=options) as broker:
        with Subscriber(broker.port) as centre:
            url = f"{'wss' if encrypted else 'ws'}://127.0.0.1:{port}/mqtt"
            tls = {"ca": str(ca)} if encrypted else None
            async with running(plant.publisher(broker, url=url, tls=tls)) as publisher:
                for k in range(4):
                    plant.log.append(readings(500, start=k * 500))
                await eventually(lambda: delivered(publisher, 2000))
                # What the broker has not passed on yet when it ends is lost by it: it persists nothing here.
                await eventually(lambda: set(centre.offsets()) == set(range(2000)))
                centre.forget()
                broker.restart()
                centre.resubscribed()
                plant.log.append(readings(10, start=2000))
                await eventually(lambda: delivered(publisher, 2010), AGAIN_S)
            await eventually(lambda: set(centre.offsets()) == set(range(2010)))
            await eventually(lambda: centre.of("status/1")[-1].document.get("reason") == "stopped")


async def test_a_port_without_websockets_is_named() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        publisher = plant.publisher(broker, url=f"ws://127.0.0.1:{broker.port}/mqtt")
        async with running(publisher):
            await eventually(lambda: "check port and path of the url" in state_of(publisher)[1])


async def test_a_renewed_certificate_is_used_at_the_next_connection(tmp_path: Path) -> None:
    ours, theirs, renewed = (tmp_path / name for name in ("ours", "theirs", "renewed"))
    for folder in (ours, theirs, renewed):
        folder.mkdir()
    broker_files, own = make_certificates(theirs), make_certificates(ours, days=-2.0)
    fresh = make_certificates(renewed)
    known = tmp_path / "known.pem"
    known.write_bytes(own[0].read_bytes() + fresh[0].read_bytes())
    port = free_port()
    options = [
        f"listener {port} 127.0.0.1",
        f"cafile {known}",
        f"certfile {broker_files[1]}",
        f"keyfile {broker_files[2]}",
        "require_certificate true",
    ]
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto(options=options) as broker:
        with Subscriber(broker.port):
            tls = {"ca": str(broker_files[0]), "certificate": str(own[1]), "key": str(own[2])}
            publisher = plant.publisher(broker, url=f"mqtts://127.0.0.1:{port}", tls=tls)
            async with running(publisher):
                day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
                await eventually(lambda: f"{own[1]} expired on {day}" in state_of(publisher)[1])
                assert state_of(publisher)[0] == "refused"
                for old, new in zip(own[1:], fresh[1:], strict=True):
                    shutil.copy(new, old)
                await eventually(lambda: delivered(publisher, 10), AGAIN_S)
                assert state_of(publisher) == ("online", "")


async def test_an_expired_certificate_of_the_broker_is_named_with_its_date(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path, days=-2.0)
    port = free_port()
    options = [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    plant = Plant()
    async with Mosquitto(options=options) as broker:
        publisher = plant.publisher(broker, url=f"mqtts://127.0.0.1:{port}", tls={"ca": str(ca)})
        async with running(publisher):
            day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
            await eventually(lambda: f"the broker's certificate expired on {day}" in state_of(publisher)[1])
            assert "its operator must renew it" in state_of(publisher)[1]


async def test_mqtt_3_1_1_keeps_the_configured_size_and_sets_aside_what_does_not_fit() -> None:
    """Mosquitto acknowledges a too large message with 3.1.1 and drops it without a word: nothing must get there."""
    plant = Plant()
    values = np.empty(3, object)
    values[:] = ["short", "x" * 5000, "short"]
    batch = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2], values, received_time=NOW, monotonic=0)
    plant.log.append(readings(500), BatchRecord("S1", batch))
    async with Mosquitto(options=["message_size_limit 3000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, mqtt="3.1.1", max_packet="3KB")) as publisher:
                await eventually(lambda: delivered(publisher, 502))
            await eventually(lambda: set(centre.offsets()) == set(range(503)) - {501})
    total = publisher.statistics().total
    assert (total.parked, total.unbalanced) == (1, 0)


async def test_login_and_client_id_are_made_from_templates() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto(users={"gw-1@centre": "secret"}) as broker:
        with Subscriber(broker.port, user="gw-1@centre", password="secret"):
            user = {"name": "{gateway}@{destination}", "password": "secret"}
            async with running(plant.publisher(broker, user=user, client_id="box-{gateway}")) as publisher:
                await eventually(lambda: delivered(publisher, 10))
            assert " as box-gw-1 (p5" in broker.log_text


async def test_a_signed_password_is_made_anew_for_each_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The broker checks it by itself, in the way of the platforms: the time in the client id, never used twice."""
    plant = Plant()
    plant.log.append(readings(10))
    seen: list[Connect] = []

    def welcome(connect: Connect) -> int:
        device, _, rest = connect.client_id.partition("|timestamp=")
        time_ms = int(rest.removesuffix("|"))
        signed = hmac.new(b"s3cret", f"clientId{device}timestamp{time_ms}".encode(), "sha256").hexdigest()
        right = connect.password == signed and abs(time_ms / 1000 - time.time()) < 60 and connect not in seen
        seen.append(connect)
        return 0 if right else 0x86

    message = "clientId{gateway}timestamp{timestamp_ms}"
    keys: dict[str, Any] = {"client_id": "{gateway}|timestamp={timestamp_ms}|"}
    password = {"hmac": "sha256", "secret": "s3cret", "message": message}
    async with ScriptedBroker() as broker:
        broker.welcome = welcome
        wrong = plant.publisher(broker.port, **keys, user={"name": "gw", "password": password | {"secret": "other"}})
        async with running(wrong):
            await eventually(lambda: "and this box's clock" in state_of(wrong)[1])
        async with running(plant.publisher(broker.port, **keys, user={"name": "gw", "password": password})) as right:
            await eventually(lambda: delivered(right, 10))
            broker.cut()
            plant.log.append(readings(10, start=10))
            await eventually(lambda: delivered(right, 20))
    assert "s3cret" not in caplog.text


async def test_a_broker_without_retained_messages_says_which_key_helps() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto(options=["retain_available false"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as asking:
                await eventually(lambda: "set `retain: false`" in state_of(asking)[1])
            async with running(plant.publisher(broker, retain=False)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
            await eventually(lambda: centre.of("catalogue/1") and centre.of("status/1"))


async def test_with_retain_off_there_is_neither_a_will_nor_a_retained_message() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    seen: list[Connect] = []
    async with ScriptedBroker() as broker:
        broker.welcome = lambda connect: seen.append(connect) or 0
        for retain in (True, False):
            async with running(plant.publisher(broker.port, retain=retain)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
            assert (seen[-1].will is not None) == retain
            assert bool(broker.retained) == retain
            broker.retained = 0
            plant = Plant()
            plant.log.append(readings(10))


async def test_a_connection_that_has_ended_leaves_no_descriptor_to_the_garbage_collector() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with ScriptedBroker() as broker:
        gc.collect()
        gc.disable()
        try:
            async with running(Plant().publisher(broker.port)) as publisher:

                def online_at(connection: int) -> bool:
                    return broker.connections == connection and state_of(publisher)[0] == "online"

                await eventually(partial(online_at, 1))
                before = descriptors()
                for connection in (2, 3, 4):
                    broker.cut()
                    await eventually(partial(online_at, connection), AGAIN_S)
                await eventually(lambda: descriptors() <= before, message=f"{before} descriptors as before")
        finally:
            gc.enable()
