"""Which readings of the log a replay means, and which of them may be sent again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gateway.contract.batch import Batch, ValueType
from gateway.log import LogView
from gateway.log.records import BatchRecord, EventRecord, PointRecord, Segment, Series
from gateway.points.table import PointTable
from gateway.publishing import sources
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.hidden import Hidden
from gateway.publishing.ranges import Range
from gateway.publishing.runs import Run
from gateway.publishing.selection import Exempt, Found, Selection, Spans, select
from tests.support.fakelog import NOW, FakeLog, FakeTail, define, readings, stream
from tests.support.logs import STREAM, T0, SetClock, definitions, event, open_log, segment

SECOND = 10**9


def column(n: int, count: int, *, at_s: int = 0, device: str = "boiler-1", stream_id: str = "S1") -> BatchRecord:
    """One reading a second from NOW + `at_s` on, of points 0, 1, 2 in turn; all arrive a minute after NOW + `at_s`."""
    batch = Batch.of(
        device, ValueType.FLOAT64, np.arange(count) % 3, np.zeros(count), received_time=NOW + (at_s + 60) * SECOND,
        monotonic=0, source_time=NOW + (at_s + np.arange(count)) * SECOND,
    )  # fmt: skip
    return BatchRecord(stream_id, batch, None, n)


def gap(n: int, at_s: int, of: str = "boiler-1") -> EventRecord:
    return EventRecord("S1", NOW + at_s * SECOND, {"schema": "gap/1", "of": of}, n)


def between(since_s: int, until_s: int, *, received: bool = False, devices: list[str] | None = None) -> Selection:
    names = None if devices is None else frozenset(devices)
    return Selection(NOW + since_s * SECOND, NOW + until_s * SECOND, received, names)


class Destination:
    """One to which everything below `waits_from` was delivered."""

    def __init__(self, waits_from: int = 100, max_grade: int = 1) -> None:
        rule = Rule(max_grade)
        self.points = PointTable()
        self.points.apply([stream(), stream("S2", grade=2), *define()])
        clearance = Clearance(rule)
        clearance.apply(self.points.streams(), 0)
        self.clearance = clearance
        self.undelivered = [Range(waits_from, 200)]

    def select(self, selection: Selection, *records: BatchRecord | EventRecord, parked: Spans | None = None) -> Found:
        """The k-th record lies at position k."""
        segments = [Segment(k, [record]) for k, record in enumerate(records)]
        exempt = Exempt(self.undelivered, parked or {})
        return select(segments, selection, self.clearance, Hidden(self.points, self.clearance), exempt)


def offsets(runs: list[Run]) -> list[tuple[int, int]]:
    return [(run.n, run.count) for run in runs]


def test_the_first_moment_is_meant_and_the_last_is_not() -> None:
    found = Destination().select(between(5, 15), column(0, 10), column(10, 10, at_s=10))
    assert offsets(found.runs) == [(5, 10)]
    assert found.counts == {"sent": 10}


def test_times_of_arrival() -> None:
    records = [column(0, 10), column(10, 10, at_s=10), column(20, 10, at_s=20)]
    found = Destination().select(between(70, 80, received=True), *records)
    assert offsets(found.runs) == [(10, 10)], "the whole of it arrived at once"
    assert Destination().select(between(71, 80, received=True), *records).runs == []
    assert offsets(Destination().select(between(60, 81, received=True), *records).runs) == [(0, 30)]


def test_devices() -> None:
    records = [column(0, 10), column(0, 10, device="meter-2")]
    found = Destination().select(between(0, 5, devices=["meter-2"]), *records)
    assert [(run.series.device, run.count) for run in found.runs] == [("meter-2", 5)]


def test_events_are_meant_by_their_own_time_and_by_the_device_that_they_are_of() -> None:
    events = [gap(0, 4), gap(1, 5), gap(2, 6, of="meter-2"), gap(3, 10)]
    everything = Destination().select(between(5, 10), *events)
    assert [one.record.n for one in everything.events] == [1, 2]
    assert everything.counts == {"sent": 2}
    one = Destination().select(between(5, 10, devices=["meter-2"]), *events)
    assert [one.record.n for one in one.events] == [2]


def test_what_waits_for_its_first_delivery_is_left_to_its_own_lane() -> None:
    found = Destination(waits_from=1).select(between(0, 20), column(0, 10), column(10, 10, at_s=10), gap(0, 3))
    assert offsets(found.runs) == [(0, 10)]
    assert found.events == []
    assert found.counts == {"sent": 10, "waiting": 11}


def test_what_the_clearance_closes_is_withheld_even_where_it_waits() -> None:
    found = Destination(waits_from=1).select(between(0, 4), column(0, 10, stream_id="S2"), column(5, 5, stream_id="S2"))
    assert (found.runs, found.counts) == ([], {"withheld": 8})


def test_a_relaxed_rule_releases_nothing_that_was_accepted_before_it() -> None:
    destination = Destination()
    relaxed = Clearance.from_state(Rule(2), destination.clearance.to_state())
    relaxed.apply(destination.points.streams(), 1)
    destination.clearance = relaxed
    records = [column(0, 5, stream_id="S2"), column(5, 5, stream_id="S2")]
    found = destination.select(between(0, 10), *records)
    assert offsets(found.runs) == [(5, 5)]
    assert found.counts == {"withheld": 5, "sent": 5}


def test_a_point_whose_label_was_raised_is_withheld() -> None:
    destination = Destination()
    destination.points.apply([PointRecord("boiler-1", 3, "p1", "S2", 2, NOW, type=ValueType.FLOAT64)])
    found = destination.select(between(0, 6), column(0, 9))
    assert offsets(found.runs) == [(0, 1), (2, 2), (5, 1)]
    assert found.counts == {"withheld": 2, "sent": 4}


def test_what_is_parked_is_left_to_its_own_command() -> None:
    parked = {Series("S1", "boiler-1"): [(2, 4), (8, 20)], Series("S1", "_events"): [(1, 2)]}
    found = Destination().select(between(0, 10), column(0, 10), gap(0, 1), gap(1, 1), parked=parked)
    assert offsets(found.runs) == [(0, 2), (4, 4)]
    assert [one.record.n for one in found.events] == [0]
    assert found.counts == {"sent": 7, "parked": 5}


async def test_the_next_position_with_something_is_found_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_HEADS_AT_ONCE", 3)
    log = FakeLog()
    for device in "aaaaaaaabaaaab":
        log.append(readings(2, device))
    source = sources.Source(log, FakeTail(log))

    async def found(start: int, end: int) -> int:
        return await source.next_with(start, end, lambda head: head.series.device == "b")

    assert [await found(0, 14), await found(8, 14), await found(9, 14), await found(9, 13), await found(14, 14)] == [
        8, 8, 13, 13, 14
    ]  # fmt: skip


@pytest.mark.parametrize("compacted", [False, True])
def test_outlines_tell_the_same_as_the_readings_themselves(tmp_path: Path, compacted: bool) -> None:
    """Many selections over a log with times out of order: what heads say is never wrong, and never passes over any."""
    draw = random.Random(1)
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock)
    store.append([segment(*definitions(), *definitions(device="meter-2")[1:])], 1)
    n = Counter[str]()
    for _ in range(60):
        records = []
        for _ in range(draw.randint(1, 3)):
            device, count = draw.choice(["boiler-1", "meter-2"]), draw.randint(1, 5)
            at = T0 + draw.randint(-50, 50) * SECOND
            batch = Batch.of(
                device, ValueType.FLOAT64, np.zeros(count), np.zeros(count), monotonic=0,
                received_time=at + draw.randint(0, 30) * SECOND, source_time=at + np.arange(count) * SECOND,
            )  # fmt: skip
            records.append(BatchRecord(STREAM, batch, None, n[device]))
            n[device] += count
        if draw.random() < 0.3:
            records.append(event(n["events"], T0 + draw.randint(-50, 50) * SECOND, of=draw.choice(["boiler-1", "x"])))
            n["events"] += 1
        store.append([segment(*records)], store.bounds().end)
    clock.advance(86_400)
    store.append([segment(event(n["events"], T0))], store.bounds().end)
    if compacted:
        assert store.compact(lambda _: True) is not None
    everything = [*store.read(1, 10**9)]
    told = 0
    with LogView(tmp_path / "log") as view:
        outlines = []
        for _ in view.segments(lambda outline: bool(outlines.append(outline))):
            raise AssertionError("nothing was wanted")
        for _ in range(200):
            since = T0 + draw.randint(-90, 60) * SECOND
            devices = draw.choice([None, frozenset(["boiler-1"]), frozenset(["meter-2"]), frozenset(["none"])])
            until = since + draw.randint(1, 200) * SECOND
            selection = Selection(since, until, draw.random() < 0.5, devices)
            for outline in outlines:
                within = [one for one in everything if outline.position <= one.position < outline.end]
                exact = sum((selection.readings_of(one) for one in within), Counter[Series]())
                if not selection.touches(outline):
                    assert exact.total() == 0
                elif (known := selection.known(outline)) is not None:
                    told += 1
                    assert +known == +exact
                assert exact.total() == 0 or any(map(selection.wants, outline.series))
    assert told > (10 if compacted else 1000)
    store.close()
