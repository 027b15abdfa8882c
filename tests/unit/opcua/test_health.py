"""What a server says of itself, and what is made of it."""

from __future__ import annotations

import asyncio
import datetime
import logging
from typing import Any

import pytest

from adapters.opcua.decoding.batches import Moment
from adapters.opcua.session.endpoints import Memory, Unwell
from adapters.opcua.session.health import ClockOffset, Health, Look, Sample
from tests.support.virtual_time import run_virtually

URL = "opc.tcp://h:1"
STATE, TIME, LEVEL, RETURN, TILL_SHUTDOWN = 2259, 2258, 2267, 12885, 2992
NOW = datetime.datetime(2026, 3, 1, 8, tzinfo=datetime.UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000


def look(at_ns: int = NOW_NS, round_trip_ns: int = 0, **values: Any) -> Look:
    numbers = {"state": STATE, "time": TIME, "level": LEVEL, "returns": RETURN, "till_shutdown": TILL_SHUTDOWN}
    asked = Moment(at_ns - round_trip_ns, 5_000_000_000)
    answered = Moment(at_ns, 5_000_000_000 + round_trip_ns)
    return Look({numbers[name]: value for name, value in values.items()}, asked, answered)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"state": 0, "level": 255}, None),
        ({"state": 0, "level": 200}, None),
        ({"level": 199}, "ServiceLevel 199 of 255: it has lost a part"),
        ({"level": 2}, "ServiceLevel 2 of 255: it has lost a part"),
        ({"level": 1}, "ServiceLevel 1 of 255: it has no data"),
        ({"level": 0}, "ServiceLevel 0 of 255: it is in maintenance"),
        ({"state": 3}, "its state is Suspended, not Running"),
        ({"state": 99}, "its state is 99, not Running"),
        ({"state": "?", "level": "?"}, None),
    ],
)
async def test_words_for_what_a_server_says(values: dict[str, Any], words: str | None) -> None:
    health = Health(URL, Memory(), alone=True)
    health.take(look(**values))
    if words is None:
        assert health.condition is None
    else:
        assert words in (health.condition or "")


async def test_both_state_and_level_are_told_and_wellness_too() -> None:
    health = Health(URL, Memory(), alone=True)
    health.take(look(state=6, level=1))
    assert "CommunicationFault" in (health.condition or "")
    assert "no data" in (health.condition or "")
    health.take(look(state=0, level=255))
    assert health.condition is None


@pytest.mark.parametrize(("level", "leaves"), [(0, True), (1, True), (2, False), (199, False)])
async def test_a_server_without_data_is_left_where_there_is_another(level: int, leaves: bool) -> None:
    Health(URL, Memory(), alone=True).take(look(level=level))
    health = Health(URL, Memory(), alone=False)
    if leaves:
        with pytest.raises(Unwell, match=f"{URL}: the server says ServiceLevel {level}"):
            health.take(look(level=level))
    else:
        health.take(look(level=level))


def test_a_server_that_was_left_in_vain_is_not_left_again_at_once() -> None:
    async def main() -> None:
        memory = Memory()
        health = Health(URL, memory, alone=False)
        with pytest.raises(Unwell) as caught:
            health.take(look(level=1))
        memory.failed(URL, caught.value)
        health.take(look(level=1))
        await asyncio.sleep(299)
        health.take(look(level=1))
        await asyncio.sleep(2)
        with pytest.raises(Unwell):
            health.take(look(level=1))

    run_virtually(main())


@pytest.mark.parametrize(
    ("values", "away_s"),
    [
        ({"state": 4, "till_shutdown": 20}, 20),
        ({"state": 4, "till_shutdown": 20, "returns": NOW + datetime.timedelta(seconds=90), "time": NOW}, 90),
        ({"level": 0, "returns": NOW + datetime.timedelta(seconds=90), "time": NOW}, 90),
        # by the server's clock, whatever ours says
        ({"level": 0, "returns": NOW.replace(hour=20), "time": NOW.replace(hour=19, minute=59)}, 60),
        ({"state": 4, "till_shutdown": 601}, 0),
        ({"state": 4, "till_shutdown": 20, "returns": NOW + datetime.timedelta(days=1), "time": NOW}, 20),
        ({"level": 0, "returns": NOW - datetime.timedelta(seconds=1), "time": NOW}, 0),
        ({"level": 0, "returns": NOW + datetime.timedelta(seconds=90)}, 0),
        ({"level": 0, "returns": datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC), "time": NOW}, 0),
        ({"level": 1, "returns": NOW + datetime.timedelta(seconds=90), "time": NOW}, 0),
        ({"state": 0, "till_shutdown": 20}, 0),
    ],
)
def test_an_announced_return_is_waited_for_where_it_is_credible(
    values: dict[str, Any], away_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        memory, loop = Memory(), asyncio.get_running_loop()
        health = Health(URL, memory, alone=True)
        began = loop.time()
        health.take(look(**values))
        health.take(look(**values))
        await memory.wait([URL])
        assert loop.time() - began == pytest.approx(away_s, abs=0.01)
        health.take(look(**values))
        health.take(look(state=0, level=255))
        assert memory.order([URL]) == [URL], "well again: no reason to wait"

    run_virtually(main())
    assert len(caplog.records) == (away_s > 0), "one line, however often it is announced"


async def test_the_clock_offset_is_that_of_the_quickest_answer() -> None:
    memory = Memory()
    health = Health(URL, memory, alone=True)
    assert memory.clock_offset_s is None
    health.take(look(NOW_NS, 400_000_000, time=NOW + datetime.timedelta(seconds=7)))
    assert memory.clock_offset_s == pytest.approx(7.2)
    health.take(look(NOW_NS, 2_000_000, time=NOW + datetime.timedelta(seconds=7.1)))
    assert memory.clock_offset_s == pytest.approx(7.101)
    health.take(look(NOW_NS, 400_000_000, time=NOW + datetime.timedelta(seconds=7)))
    assert memory.clock_offset_s == pytest.approx(7.101)


def test_a_clock_that_is_set_shows_at_once() -> None:
    offset = ClockOffset()
    assert offset.add(Sample(0.001, 0.002)) == 0.001
    assert offset.add(Sample(3600.0, 0.5)) == 3600.0
    assert offset.add(Sample(3600.1, 0.1)) == 3600.1


def test_old_samples_are_forgotten() -> None:
    offset = ClockOffset()
    offset.add(Sample(1.0, 0.01))
    for _ in range(6):
        known = offset.add(Sample(1.05, 0.2))
    assert known == 1.05


async def test_others_are_told_what_the_servers_clock_says() -> None:
    told: list[tuple[int, Moment, Moment]] = []

    class Watch:
        def server_time(self, time: int, asked: Moment, answered: Moment) -> None:
            told.append((time, asked, answered))

    Health(URL, Memory(), alone=True, watch=Watch()).take(look(NOW_NS, 10, time=NOW))
    assert told == [(NOW_NS, Moment(NOW_NS - 10, 5_000_000_000), Moment(NOW_NS, 5_000_000_010))]
