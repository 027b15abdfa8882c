"""Brokers that refuse, break, take their time: nothing is lost, the account is exact, state and log tell it once.

Certificates that have expired are in tests/integration/test_publisher_brokers.py, messages that are too large in
test_parked.py and test_publisher.py beside it.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.publishing.publisher import Publisher
from tests.support.broker import Mosquitto
from tests.support.destination import BASE, ENTERPRISE, Plant, delivered, running, state_of
from tests.support.fakelog import FakeState, readings
from tests.support.scripted_broker import ScriptedBroker
from tests.support.slow_pipe import SlowPipe
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

SMALL = {"max_wait": "20ms", "max_bytes": "1500B"}
"""about ten readings in a message"""


def fill(plant: Plant, segments: int, start: int = 0) -> int:
    """Ten readings a segment, offsets from `start` on; returns the offset after them."""
    for k in range(segments):
        plant.log.append(readings(10, start=start + k * 10))
    return start + segments * 10


def exact(publisher: Publisher, *, delivered: int, parked: int = 0) -> None:
    total = publisher.statistics().total
    assert (total.delivered, total.parked, total.waiting, total.unbalanced) == (delivered, parked, 0, 0)
    assert total.accepted == delivered + parked
    assert total.dropped == {}


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in message for message in caplog.messages)


async def test_a_refused_login_is_told_once_and_ends_when_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plant = Plant()
    end = fill(plant, 20)
    async with Mosquitto(users={"gw": "other"}) as broker:
        async with running(plant.publisher(broker, user={"name": "gw", "password": "mine"})) as publisher:
            await eventually(lambda: broker.log_text.count("not authorised") >= 3, 15, "three attempts")
            assert state_of(publisher)[0] == "refused"
            broker.change(users={"gw": "mine"})
            with Subscriber(broker.port, user="gw", password="mine") as centre:
                await eventually(lambda: delivered(publisher, end), 20)
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        exact(publisher, delivered=end)
    assert told(caplog, "centre: online at") == 1
    assert told(caplog, "check `user`") <= 2, "once, and once more if an attempt met the restart in between"


async def test_a_forbidden_topic_is_told_once_and_ends_when_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plant = Plant()
    end = fill(plant, 20)
    allowed = f"user gw\ntopic write {BASE}/status\ntopic write {BASE}/+/catalogue/+\ntopic write {BASE}/health\n"
    async with Mosquitto(users={"gw": "x"}, acl=allowed) as broker:
        async with running(plant.publisher(broker, user={"name": "gw", "password": "x"})) as publisher:
            await eventually(lambda: "readings (not-authorised)" in state_of(publisher)[1])
            await eventually(lambda: broker.log_text.count("New client connected") >= 3, 15, "three attempts")
            assert publisher.statistics().total.waiting == end
            assert told(caplog, "readings (not-authorised)") == 1
            broker.change(acl=f"user gw\ntopic readwrite {BASE}/#\n")
            with Subscriber(broker.port, topic=f"{BASE}/#", user="gw", password="x") as centre:
                await eventually(lambda: delivered(publisher, end), 30)
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        exact(publisher, delivered=end)


def take_over(port: int) -> None:
    """Another client with the same id comes, and goes once it is in."""
    thief = paho.Client(CallbackAPIVersion.VERSION2, f"{ENTERPRISE}-gw-1-centre", protocol=paho.MQTTv5)
    thief.on_connect = lambda client, *_: client.disconnect()
    thief.connect("127.0.0.1", port)
    thief.loop_forever()


async def test_a_session_that_others_take_over_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()
    end = 0
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, batch=SMALL)) as publisher:
                for taken in range(1, 4):
                    end = fill(plant, 20, end)
                    await eventually(lambda: state_of(publisher)[0] == "online")
                    await asyncio.to_thread(take_over, broker.port)
                    await eventually(lambda n=taken: told(caplog, "centre: down") == n)  # type: ignore[misc]
                    end = fill(plant, 20, end)
                    await eventually(lambda n=end: delivered(publisher, n), 20)  # type: ignore[misc]
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        exact(publisher, delivered=end)
    assert told(caplog, "centre: down") == 3, "each take-over is told once"
    assert told(caplog, "another client uses the same client id"), "Mosquitto 2.0 does not say it: the advice does"


@pytest.mark.parametrize("persistence", [True, False])
async def test_a_broker_that_restarts_under_load(persistence: bool) -> None:
    plant = Plant()
    end = 0
    async with Mosquitto(persistence=persistence) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, batch=SMALL)) as publisher:
                for _ in range(3):
                    end = fill(plant, 30, end)
                    # What it acknowledged and has not passed on would be its loss: here it has passed it on.
                    await eventually(lambda n=end: set(centre.offsets()) == set(range(n)), 20)  # type: ignore[misc]
                    centre.forget()
                    broker.stop()
                    end = fill(plant, 30, end)
                    broker.start()
                    centre.resubscribed()
                await eventually(lambda: delivered(publisher, end), 30)
                await eventually(lambda: set(centre.offsets()) == set(range(end)))
        exact(publisher, delivered=end)


async def test_a_line_with_two_seconds_of_latency_and_five_percent_of_loss(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()
    end = fill(plant, 40)
    async with Mosquitto() as broker, SlowPipe(broker.port, latency_s=1.0, loss=0.05) as pipe:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(pipe.port, batch=SMALL, window=1000)) as publisher:
                await eventually(lambda: delivered(publisher, end), 60)
                await eventually(lambda: centre.offsets() == dict.fromkeys(range(end), 1))
                mean_s = publisher.statistics().puback_seconds / publisher.statistics().acknowledged
                assert mean_s >= 2.0, "the line is as bad as it is said to be"
                assert pipe.lost
        exact(publisher, delivered=end)
    assert told(caplog, "centre: down") == 0, "slow is not broken"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (0x80, "unspecified-error"),
        (0x83, "implementation-specific-error"),
        (0x87, "not-authorised"),
        (0x97, "quota-exceeded"),
    ],
)
async def test_a_reason_that_stops_is_told_once_and_ends(
    code: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant = Plant()
    end = fill(plant, 20)
    async with ScriptedBroker() as broker:
        broker.answer = lambda topic: code if topic.endswith("/readings") and broker.connections < 4 else 0
        async with running(plant.publisher(broker.port, batch=SMALL)) as publisher:
            await eventually(lambda: f"({word})" in state_of(publisher)[1])
            await eventually(lambda: delivered(publisher, end), 20)
            assert state_of(publisher) == ("online", "")
        assert broker.connections == 4, "each try is a connection"
        assert set(broker.taken) == set(range(end))
        exact(publisher, delivered=end)
    assert told(caplog, f"({word})") == 1


@pytest.mark.parametrize(("code", "word"), [(0x90, "topic-name-invalid"), (0x99, "payload-format-invalid")])
async def test_a_reason_that_parks_sets_aside_that_message_alone(
    code: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant = Plant()
    end = fill(plant, 50)
    seen = 0

    def answer(topic: str) -> int:
        nonlocal seen
        seen += topic.endswith("/readings")
        return code if topic.endswith("/readings") and seen % 5 == 0 else 0

    async with ScriptedBroker(answer) as broker:
        async with running(plant.publisher(broker.port, batch=SMALL)) as publisher:
            await eventually(
                lambda: publisher.statistics().total.waiting == 0 and publisher.statistics().total.accepted
            )
        parked = publisher.statistics().total.parked
        exact(publisher, delivered=end - parked, parked=parked)
        assert len(broker.taken) == end - parked
    listed = {
        n
        for _, _, entry in plant.state.items("parked/")
        if entry["reason"] == word
        for n in range(entry["n"], entry["n"] + entry["count"])
    }
    assert listed == set(range(end)) - set(broker.taken)
    assert told(caplog, "set aside") == 1


async def test_acknowledgements_that_never_come_hold_the_position_and_nothing_else() -> None:
    plant = Plant()
    end = fill(plant, 50)
    withheld: list[str] = []

    def answer(topic: str) -> int | None:
        if topic.endswith("/readings") and not withheld:
            withheld.append(topic)
            return None
        return 0

    async with ScriptedBroker(answer) as broker:
        async with running(plant.publisher(broker.port, batch=SMALL)) as publisher:
            await eventually(lambda: withheld)
            later = fill(plant, 10, end)
            # The one that is withheld was the first of its connection, which begins with one message.
            assert publisher.statistics().total.delivered == 0
            broker.cut()
            await eventually(lambda: delivered(publisher, later), 20)
        assert set(broker.taken) == set(range(later))
        exact(publisher, delivered=later)


async def test_a_broker_at_a_tenth_of_the_rate_does_not_slow_its_neighbour() -> None:
    """Two destinations of one log: the quick one is as quick as alone."""

    async def drain(plant: Plant, broker: Mosquitto, end: int) -> float:
        begun = time.monotonic()
        async with running(plant.publisher(broker, batch=SMALL)) as quick:
            await eventually(lambda: delivered(quick, end), 30)
            return time.monotonic() - begun

    plant = Plant()
    end = fill(plant, 300)
    async with Mosquitto() as broker:
        with Subscriber(broker.port):
            alone_s = await drain(plant, broker, end)
            pace_s = 10 * alone_s / (end / 10)
            async with ScriptedBroker(pace_s=pace_s) as slow_broker:
                beside = Plant(plant.log, FakeState())
                async with running(beside.publisher(slow_broker.port, batch=SMALL)) as slow:
                    await eventually(lambda: slow_broker.taken, 20)
                    beside_s = await drain(Plant(plant.log, FakeState()), broker, end)
                    total = slow.statistics().total
                    assert total.waiting > end / 2, "the slow one is slow"
                    assert total.unbalanced == 0
    assert beside_s < 2 * alone_s + 0.5
