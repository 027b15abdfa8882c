"""Brokers that refuse, break, take their time: nothing is lost, the account is exact, state and log tell it once.

Certificates that have expired are in tests/integration/test_publisher_brokers.py, messages that are too large for
Mosquitto and a receive maximum of one in test_publisher.py beside it; MQTT 3.1.1 in test_brokers_aedes.py.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord
from tests.support.broker import Mosquitto
from tests.support.campaign import SMALL, exact, fill, take_over, told
from tests.support.destination import BASE, Plant, delivered, running, state_of
from tests.support.fakelog import NOW, FakeState
from tests.support.scripted_broker import ScriptedBroker
from tests.support.slow_pipe import SlowPipe
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually


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


async def test_nobody_subscribes_is_told_once_and_ends_when_somebody_does(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()
    end = fill(plant, 20)
    alone = True
    asked = 0

    def answer(topic: str) -> int:
        nonlocal asked
        asked += topic.endswith("/readings")
        return 0x10 if alone and topic.endswith("/readings") else 0

    async with ScriptedBroker(answer) as broker:
        async with running(plant.publisher(broker.port, batch=SMALL)) as publisher:
            await eventually(lambda: asked >= 3, message="three attempts")
            assert state_of(publisher)[0] == "holding"
            assert publisher.statistics().total.waiting == end
            alone = False
            await eventually(lambda: delivered(publisher, end))
            assert state_of(publisher) == ("online", "")
        assert broker.connections == 1, "nobody is cut off for it"
        assert set(broker.taken) >= set(range(end))
        exact(publisher, delivered=end)
    assert told(caplog, "nobody subscribes") == 1


async def test_too_large_is_split_and_what_cannot_be_split_is_set_aside() -> None:
    plant = Plant()
    end = fill(plant, 20)
    values = np.empty(3, object)
    values[:] = ["short", "x" * 5000, "short"]
    batch = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2], values, received_time=NOW, monotonic=0)
    plant.log.append(BatchRecord("S1", batch))
    async with ScriptedBroker() as broker:
        broker.largest = 2000
        async with running(plant.publisher(broker.port)) as publisher:
            await eventually(lambda: delivered(publisher, end + 2))
            await eventually(lambda: publisher.statistics().total.waiting == 0)
        assert broker.connections == 1
        assert set(broker.taken) == {*range(end), end, end + 2}
        exact(publisher, delivered=end + 2, parked=1)


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


async def test_a_broker_that_cuts_off_a_plant_with_nothing_to_say_is_online_again_at_once() -> None:
    """After a cut with messages under way a connection has to prove itself; without readings it need not."""
    asked: list[str] = []
    async with ScriptedBroker(asked.append) as broker, running(Plant().publisher(broker.port)) as publisher:
        await eventually(lambda: asked, message="the status, which is not acknowledged")
        broker.answer = lambda topic: 0
        broker.cut()
        await eventually(lambda: broker.connections == 2 and state_of(publisher) == ("online", ""))


async def test_a_broker_at_a_tenth_of_the_rate_does_not_slow_its_neighbour() -> None:
    """Two destinations of one log: the slow one takes a message for ten of the quick one, which never waits."""
    plant = Plant()
    end = fill(plant, 300)
    beside = Plant(plant.log, FakeState())
    granted, alone = 0, asyncio.Event()

    async def pace() -> None:
        nonlocal granted
        granted += 1
        await eventually(lambda: alone.is_set() or quick.statistics().acknowledged >= 10 * granted, 60)

    async with Mosquitto() as broker, ScriptedBroker(pace=pace) as slow_broker:
        with Subscriber(broker.port) as centre:
            quick, slow = plant.publisher(broker, batch=SMALL), beside.publisher(slow_broker.port, batch=SMALL)
            async with running(slow):
                await eventually(lambda: granted, message="the slow one is connected")
                async with running(quick):
                    await eventually(lambda: delivered(quick, end), 60)
                    total = slow.statistics().total
                    assert total.waiting > end / 2, "the slow one is slow"
                    assert total.unbalanced == 0
                alone.set()
                await eventually(lambda: delivered(slow, end), 60)
            await eventually(lambda: set(centre.offsets()) == set(range(end)))
        assert set(slow_broker.taken) == set(range(end))
    exact(quick, delivered=end)
    exact(slow, delivered=end)
