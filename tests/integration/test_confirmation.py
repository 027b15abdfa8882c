"""`confirm: centre`: a reading is delivered when the centre says that it is stored, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.log.records import EventRecord
from gateway.publishing.publisher import Publisher
from gateway.publishing.statistics import Confirming
from simulators.centre.subscriber import Centre
from tests.support.answering import AnsweringCentre, Asked, answer
from tests.support.broker import Mosquitto
from tests.support.destination import BASE, Plant, delivered, running, state_of
from tests.support.fakelog import NOW, readings
from tests.support.scripted_broker import ScriptedBroker
from tests.support.wait import eventually

CENTRE: dict[str, Any] = {"confirm": "centre", "confirm_timeout": "200ms"}
GAP = {
    "schema": "gap/1",
    "id": "g",
    "of": "boiler-1",
    "points": None,
    "from": None,
    "to": None,
    "reason": "device-down",
}
PATIENT_S = 60.0


def filled(count: int | None) -> dict[str, Any]:
    """The gap was filled, with so many readings."""
    ends = dict.fromkeys(("from", "to"), "2026-11-20T08:00:00Z")
    return {"schema": "gap-filled/1", "id": "g", "of": "boiler-1", "points": None, "count": count, **ends}


def confirming(publisher: Publisher) -> Confirming:
    found = publisher.statistics().confirming
    assert found is not None
    return found


def confirms_more_than(publisher: Publisher, count: int) -> bool:
    return confirming(publisher).confirmed > count


@pytest.mark.parametrize("format", ["json", "columns"])
async def test_the_simulated_centre_confirms_what_it_has_stored(tmp_path: Path, format: str) -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Centre(broker.url, "iiot/v1/#", tmp_path / "c.db") as centre:
            centre.wait_ready()
            publisher = plant.publisher(broker, confirm="centre", format=format, compression="zstd")
            async with running(publisher):
                for k in range(20):
                    plant.log.append(readings(50, start=k * 50), EventRecord("S1", NOW, dict(GAP)))
                await eventually(lambda: delivered(publisher, 1020), PATIENT_S)
                assert centre.taken >= 1020, "it was stored before it counted as delivered"
                assert confirming(publisher)[:2] == (1020, 0)
                assert state_of(publisher) == ("online", "")
            with centre.report() as report:

                def closing() -> list[dict[str, Any]]:
                    """An hour of the wall clock may have ended during the test as well."""
                    return [account for account in report.accounts() if account["period"] == "close"]

                await eventually(lambda: closing() and report.reconcile().exact, PATIENT_S)
                (account,) = closing()
                assert account["confirm"] == "centre"
                assert {e["device"]: e["confirmed"] for e in account["entries"]} == {"boiler-1": 1000, "_events": 20}
                assert (report.errors(), report.conflicts(), report.missing()) == ({}, [], [])
    assert publisher.statistics().total.unbalanced == 0


@pytest.mark.parametrize("count", [None, 0, 46])
async def test_each_event_is_confirmed_by_itself_whatever_it_counts(tmp_path: Path, count: int | None) -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Centre(broker.url, "iiot/v1/#", tmp_path / "c.db") as centre:
            centre.wait_ready()
            async with running(plant.publisher(broker, confirm="centre")) as publisher:
                # More than the backlog's share of the window: unanswered ones would stop all that comes after them.
                for k in range(20):
                    plant.log.append(readings(1, start=k), EventRecord("S1", NOW, filled(count)))
                await eventually(lambda: delivered(publisher, 40), PATIENT_S)
                assert centre.taken == 40, "each event came before it counted as delivered"
                assert confirming(publisher) == (40, 0, 0, 0)


async def test_all_settles_when_the_broker_was_killed_with_messages_under_way(tmp_path: Path) -> None:
    """What it had acknowledged and not passed on is gone with it, and so is the centre's session."""
    plant = Plant()
    offsets = 0
    async with Mosquitto() as broker:
        with Centre(broker.url, "iiot/v1/#", tmp_path / "c.db") as centre:
            centre.wait_ready()
            keys = {**CENTRE, "batch": {"max_wait": "50ms", "max_bytes": "2KB"}, "format": "columns"}
            async with running(plant.publisher(broker, **keys)) as publisher:
                for k in range(3):
                    for n in range(20):
                        start = 500 * k + 25 * n
                        plant.log.append(readings(25, start=start), EventRecord("S1", NOW, filled((None, 46)[n % 2])))
                    await eventually(partial(confirms_more_than, publisher, offsets), 60, "some of it")
                    offsets += 520
                    broker.kill()
                    await asyncio.to_thread(broker.start)
                await eventually(lambda: delivered(publisher, offsets), 60, "all of it")
                assert state_of(publisher) == ("online", "")
            with centre.report() as report:
                assert sum(count.stored for count in report.counts()) == offsets
                assert (report.errors(), report.conflicts(), report.missing()) == ({}, [], [])
    assert publisher.statistics().total.unbalanced == 0


async def test_the_acknowledgement_of_the_broker_alone_frees_nothing() -> None:
    plant = Plant()
    for k in range(60):
        plant.log.append(readings(10, start=k * 10))
    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, lambda asked: []) as centre:
            keys = {**CENTRE, "window": 7, "batch": {"max_wait": "50ms", "max_bytes": "2KB"}}
            async with running(plant.publisher(broker, **keys)) as publisher:
                await eventually(lambda: state_of(publisher)[0] == "unconfirmed", PATIENT_S)
                assert f"{BASE}/confirm/centre" in state_of(publisher)[1]
                # Nothing but the one message that tries the way, again and again, less and less often.
                await eventually(lambda: confirming(publisher).resent >= 2, PATIENT_S)
                assert {asked.document["n"] for asked in centre.asked} == {0}
                assert len({asked.correlation for asked in centre.asked}) == 1
                statistics = publisher.statistics()
                assert (statistics.total.delivered, statistics.total.waiting, statistics.in_flight) == (0, 600, 1)
                centre.answers = lambda asked: [asked.stored()]
                await eventually(lambda: delivered(publisher, 600), PATIENT_S)
                assert state_of(publisher) == ("online", "")
                # The centre falls silent in the middle: the window is the bound, whatever the broker acknowledges.
                centre.answers = lambda asked: []
                for k in range(60, 120):
                    plant.log.append(readings(10, start=k * 10))
                await eventually(lambda: state_of(publisher)[0] == "unconfirmed", PATIENT_S)
                assert publisher.statistics().in_flight <= 7
                assert confirming(publisher).unconfirmed <= 7
                centre.answers = lambda asked: [asked.stored()]
                await eventually(lambda: delivered(publisher, 1200), PATIENT_S)
    assert confirming(publisher)[:2] == (1200, 0)
    assert publisher.statistics().total.unbalanced == 0


async def test_late_and_double_answers_count_once() -> None:
    plant = Plant()
    held: list[Asked] = []

    def later(asked: Asked) -> Sequence[dict[str, Any]]:
        held.append(asked)
        return []

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, later) as centre:
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                plant.log.append(readings(10))
                await eventually(lambda: len(held) >= 2, PATIENT_S, "sent again")
                centre.say(held[0], held[0].stored())
                await eventually(lambda: delivered(publisher, 10), PATIENT_S)
                centre.say(held[1], held[1].stored())
                await eventually(lambda: confirming(publisher).ignored == 1, PATIENT_S)
                centre.answers = lambda asked: [asked.stored(), asked.stored()]
                plant.log.append(readings(10, start=10))
                await eventually(lambda: delivered(publisher, 20), PATIENT_S)
                await eventually(lambda: confirming(publisher).ignored >= 2, PATIENT_S)
    assert confirming(publisher).confirmed == 20
    assert publisher.statistics().total.unbalanced == 0


async def test_what_the_centre_refuses_is_parked_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()

    def part(asked: Asked) -> Sequence[dict[str, Any]]:
        """The middle of the readings is refused, in an answer of its own; of the events it can read nothing."""
        if asked.document["device"] == "_events":
            return [{"schema": "confirm/1", "refused": [{"reason": "Not a word\n"}]}]
        n, count = asked.document["n"], asked.document["count"]
        ends = [asked.entry(n=n, count=3), asked.entry(n=n + 5, count=count - 5)]
        return [answer(stored=ends), answer(refused=[asked.entry(n=n + 3, count=2, reason="no-such-point")])]

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, part):
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                plant.log.append(readings(10), EventRecord("S1", NOW, dict(GAP)))
                await eventually(lambda: publisher.statistics().total.parked == 3, PATIENT_S)
                await eventually(lambda: delivered(publisher, 8), PATIENT_S)
            assert publisher.statistics().total.unbalanced == 0
    entries = {entry["device"]: entry for _, _, entry in plant.state.items("parked/")}
    assert (entries["boiler-1"]["n"], entries["boiler-1"]["count"]) == (3, 2)
    assert entries["boiler-1"]["reason"] == "centre-no-such-point"
    assert (entries["_events"]["n"], entries["_events"]["reason"]) == (0, "centre-no-reason")
    assert "the centre never takes them (centre-no-such-point)" in caplog.text


async def test_what_the_centre_passes_over_again_and_again_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It answers for readings and never for events: nothing else would say what stands in the way."""
    plant = Plant()

    def no_events(asked: Asked) -> Sequence[dict[str, Any]]:
        return [] if asked.document["device"] == "_events" else [asked.stored()]

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, no_events) as centre:
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                plant.log.append(readings(1))
                await eventually(lambda: delivered(publisher, 1), PATIENT_S, "the window is open")
                plant.log.append(EventRecord("S1", NOW, filled(46)), EventRecord("S1", NOW, filled(46)))
                count = 1

                def told() -> bool:
                    """One reading after the other, each once the centre has got the one before."""
                    nonlocal count
                    if any(
                        asked.document["device"] == "boiler-1" and asked.document["n"] == count - 1
                        for asked in centre.asked
                    ):
                        plant.log.append(readings(1, start=count))
                        count += 1
                    return "answers for others" in caplog.text

                await eventually(told, 60)
                assert "has not answered for _events n=0 (stream S1)" in caplog.text
                centre.answers = lambda asked: [asked.stored()]
                await eventually(lambda: delivered(publisher, count + 2), PATIENT_S)
    assert caplog.text.count("answers for others") == 1


async def test_a_first_message_that_the_centre_never_answers_keeps_nothing_live_waiting() -> None:
    """A connection begins with one message alone; what the broker has taken of it proves the way to the broker."""
    plant = Plant()
    plant.log.append(readings(10))

    def but_the_first(asked: Asked) -> Sequence[dict[str, Any]]:
        return [] if asked.document["n"] == 0 else [asked.stored()]

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, but_the_first) as centre:
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                await eventually(lambda: confirming(publisher).unconfirmed == 1, PATIENT_S, "sent")
                for k in range(1, 6):
                    plant.log.append(readings(10, start=10 * k))
                    await eventually(partial(delivered, publisher, 10 * k), PATIENT_S, "live")
                centre.answers = lambda asked: [asked.stored()]
                await eventually(lambda: delivered(publisher, 60), PATIENT_S)


async def test_answers_for_others_and_for_nothing_are_passed_over() -> None:
    plant = Plant()

    def wrong(asked: Asked) -> Sequence[dict[str, Any] | bytes]:
        return [
            answer(gateway="gw-2", stored=[asked.entry()]),
            answer(stored=[asked.entry(stream="S9")]),
            answer(stored=[asked.entry(n=asked.document["n"] + 1000)]),
            answer(stored=[asked.entry(n=-1), asked.entry(count=0), asked.entry(n="0"), 7]),
            answer(stored="all"),
            {"schema": "confirm/2"},
            b"\xff",
            b"[]",
        ]

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, wrong) as centre:
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                plant.log.append(readings(10))
                await eventually(lambda: confirming(publisher).ignored >= 8, PATIENT_S)
                assert publisher.statistics().total.delivered == 0
                # With the correlation of a stranger, but with our offsets: it is stored.
                centre.answers = lambda asked: []
                centre.say(centre.asked[0], centre.asked[0].stored(), correlation=b"somebody else's")
                await eventually(lambda: delivered(publisher, 10), PATIENT_S)


async def test_an_answer_on_another_connection_counts() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, lambda asked: []) as centre:
            async with running(plant.publisher(broker, **CENTRE)) as publisher:
                plant.log.append(readings(10))
                await eventually(lambda: len(centre.asked) >= 1, PATIENT_S)
                first = centre.asked[0]
                broker.restart()
                await eventually(lambda: centre.asked[-1].correlation[:8] != first.correlation[:8], PATIENT_S)
                await eventually(lambda: confirming(publisher).unconfirmed == 1, PATIENT_S)
                centre.say(first, first.stored())
                await eventually(lambda: delivered(publisher, 10), PATIENT_S)
    assert publisher.statistics().total.unbalanced == 0


async def test_a_broker_that_refuses_the_subscription_is_a_state_that_says_so() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with ScriptedBroker() as broker:
        broker.subscription = 0x87
        async with running(plant.publisher(broker.port, **CENTRE)) as publisher:
            await eventually(lambda: state_of(publisher)[0] == "refused", PATIENT_S)
            reason = state_of(publisher)[1]
            assert f"refuses the subscription to {BASE}/confirm/centre (Not authorized)" in reason
            assert "or set `confirm: broker`" in reason
            assert publisher.statistics().total.waiting == 10
            assert broker.taken.total() == 0, "nothing is sent for which no answer can come"


async def test_a_broker_that_grants_the_subscription_and_passes_nothing_on_is_seen_too() -> None:
    """Mosquitto with an access list: it checks what a client may read at each message alone."""
    plant = Plant()
    acl = f"user gw\ntopic write {BASE}/#\n\nuser centre\ntopic readwrite iiot/#\n"
    async with Mosquitto(users={"gw": "x", "centre": "y"}, acl=acl) as broker:
        with AnsweringCentre(broker.port, lambda asked: [asked.stored()], user=("centre", "y")):
            user = {"name": "gw", "password": "x"}
            async with running(plant.publisher(broker, user=user, **CENTRE)) as publisher:
                plant.log.append(readings(10))
                await eventually(lambda: state_of(publisher)[0] == "unconfirmed", PATIENT_S)
                assert "whether the broker's access rules let this client read there" in state_of(publisher)[1]
                broker.change(acl=acl.replace("topic write", "topic readwrite"))
                await eventually(lambda: delivered(publisher, 10), PATIENT_S)
                assert state_of(publisher) == ("online", "")
