"""Attacks on the seams that need no process: clocks that go back, gaps over restarts, labels that rise."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.contract import Batch, Gap, LinkLost, Sink, ValueType
from gateway.contract.status import BAD_TIMEOUT
from gateway.log.records import BatchRecord, EventRecord, Labels, PointRecord, Record, StreamRecord
from gateway.points.registry import MOST_TYPES
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.points.ulid import ulid
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.hidden import Hidden
from gateway.publishing.runs import visible
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceCounters, DeviceSink
from tests.support.logs import STREAM, T0, definitions, open_log, segment
from tests.unit.test_normaliser import GRADE_1, Bench, define
from tests.unit.test_supervisor import Rig, Writer

HOUR = 3600 * 10**9


def test_a_clock_that_goes_back_does_not_bring_a_closed_stream_back() -> None:
    """A younger stream with a smaller id would be taken for the older one, whose offsets may have been lost."""
    table = PointTable()
    table.apply([StreamRecord(ulid(T0), GRADE_1, T0)])
    begun: list[StreamRecord] = []
    Streams(table, continue_old=False, now=lambda: T0 - HOUR, begin=begun.append).for_labels(GRADE_1)
    table.apply(begun)
    again = Streams(table, continue_old=True, now=lambda: T0 - HOUR, begin=begun.append)
    assert again.for_labels(GRADE_1) == begun[0].stream


def test_ids_sort_after_the_one_before_whatever_the_clock_says() -> None:
    ids = [""]
    for now in (T0, T0, T0 - HOUR, T0 + HOUR, 0):
        ids.append(ulid(now, ids[-1]))
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_a_point_that_goes_to_and_fro_between_types_fills_nothing() -> None:
    """int, float, int ... at every notification: the catalogue stays small and every value keeps its kind."""
    bench = Bench()
    bench.bind(define("a"))
    normaliser = bench.normaliser()
    kinds = [(ValueType.INT64, 1), (ValueType.FLOAT64, 2.5), (ValueType.BOOL, True)]
    seen: list[Any] = []
    for kind, value in kinds * 20:
        batch = Batch.of("d", kind, [0], value, received_time=T0, monotonic=1)
        for record in normaliser.records([batch]):
            entry = bench.table.points("d")[int(record.batch.points[0])]
            assert entry.type is record.batch.type
            seen += record.batch.values.tolist()
    assert seen == [value for _, value in kinds * 20]
    assert [type(value) for value in seen] == [type(value) for _, value in kinds * 20]
    assert len(bench.table.points("d")) <= MOST_TYPES + 1


class Recorder:
    """Gaps of device d, with everything that they wrote."""

    def __init__(self, *streams: str, now: int = T0, points: dict[int, PointRecord] | None = None) -> None:
        self.now = now
        self.events: list[EventRecord] = []
        self.gaps = Gaps(
            "d", streams or ("s",), now=lambda: self.now, write=self.events.append, points=lambda: points or {}
        )

    @property
    def told(self) -> list[tuple[Any, ...]]:
        keys = ("from", "to", "reason")
        return [(event.stream, *(event.body[key] for key in keys)) for event in self.events]


def test_a_gap_that_begins_in_the_future_began_nobody_knows_when() -> None:
    """The clock was put back an hour before this start: the log's last entry is younger than now."""
    recorder = Recorder()
    recorder.gaps.begin(T0 + HOUR, "gateway-down")
    recorder.gaps.end(T0 + 1_000_000_000)
    assert [told[1] for told in recorder.told] == [None, None]
    other = Recorder()
    other.gaps.begin(T0, "device-down")
    other.gaps.end(T0 - HOUR)
    assert other.told[1][1] is None, "never an end before the beginning"


def test_a_gap_is_told_in_every_stream_and_names_only_in_their_own() -> None:
    points = {
        0: PointRecord("d", 0, "open", "low", 1, T0),
        1: PointRecord("d", 1, "secret", "high", 1, T0),
    }
    recorder = Recorder("low", "high", points=points)
    recorder.gaps.report(Gap((0, 1), T0, T0 + 1, "overflow"))
    assert {event.stream: event.body["points"] for event in recorder.events} == {"low": ["open"], "high": ["secret"]}
    recorder.gaps.begin(T0, "device-down")
    assert [event.stream for event in recorder.events[2:]] == ["low", "high"]
    assert len({event.body["id"] for event in recorder.events[2:]}) == 1


@pytest.mark.parametrize("rotated", [False, True])
def test_an_open_gap_is_known_at_the_next_start(tmp_path: Path, rotated: bool) -> None:
    recorder = Recorder(STREAM)
    recorder.gaps.begin(T0 - 5, "device-down")
    store, _ = open_log(tmp_path / "log", rotate_bytes=1 if rotated else 256_000_000)
    event = recorder.events[0]
    event.n = 0
    store.append([segment(*definitions(), event)], store.bounds().end)
    store.append([segment(*definitions())], store.bounds().end)
    store.append([segment(*definitions())], store.bounds().end)
    store.close()
    store, found = open_log(tmp_path / "log")
    assert [body["id"] for body in found.open_gaps] == [event.body["id"]]
    again = Recorder(STREAM)
    again.gaps.resume(found.open_gaps)
    again.gaps.begin(T0, "gateway-down")
    assert again.events == [], "one outage, one gap"
    again.gaps.end(T0 + 7)
    (ended,) = again.events
    assert ended.body["id"] == event.body["id"]
    ended.n = 1
    store.append([segment(ended)], store.bounds().end)
    store.close()
    store, found = open_log(tmp_path / "log")
    store.close()
    assert found.open_gaps == []


@pytest.mark.parametrize(("status", "ends"), [(0, True), (0x808C0000, True), (BAD_TIMEOUT, False)])
async def test_only_the_devices_own_word_ends_a_gap(status: int, ends: bool) -> None:
    bench = Bench()
    bench.bind(define("a"))
    recorder = Recorder()
    recorder.gaps.begin(T0 - 5, "device-down")
    rig = Rig()
    sink = DeviceSink(
        "d", bench.normaliser(), Writer(), recorder.gaps, DeviceCounters(), link=rig.supervisor, describe=lambda _: None
    )
    await sink.offer([Batch.of("d", ValueType.INT64, [0], 1, status=status, received_time=T0, monotonic=1)])
    assert recorder.gaps.is_open is not ends
    assert (sink.covered_until is not None) is ends


async def test_an_adapter_that_fails_while_it_closes_does_not_undo_the_stop() -> None:
    async def acquire(sink: Sink) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LinkLost("cut while closing")

    rig = Rig(acquire, acquire)
    task = asyncio.create_task(rig.supervisor.run(rig.sink, T0))
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()


def table_of(*streams: str, point: str = "p") -> PointTable:
    """One point, with an entry in each of `streams` in turn."""
    grades = {"one": 1, "two": 2, "three": 3}
    table = PointTable()
    records: list[Record] = [
        StreamRecord(name, Labels("production", grade, "general"), T0) for name, grade in grades.items()
    ]
    records += [PointRecord("d", index, point, name, index + 1, T0) for index, name in enumerate(streams)]
    table.apply(records)
    return table


@pytest.mark.parametrize(
    ("streams", "hidden"),
    [
        (("one", "one"), set()),
        (("one", "two"), set()),
        (("one", "three"), {0}),
        (("three", "one"), set()),
        (("one", "three", "one"), {0}),
        (("one", "two", "three"), {0, 1}),
    ],
)
def test_a_raised_label_hides_what_was_before(streams: tuple[str, ...], hidden: set[int]) -> None:
    assert Hidden(table_of(*streams), Clearance(Rule(2))).indexes("d") == hidden


def test_visible_slices_leave_holes_and_keep_offsets() -> None:
    for bits in itertools.product([False, True], repeat=5):
        hidden = np.array(bits)
        batch = Batch.of("d", ValueType.INT64, np.arange(5), np.arange(5), received_time=T0, monotonic=1)
        slices = visible(BatchRecord("s", batch, n=100), 7, hidden)
        offsets = [n for part in slices for n in range(part.n, part.n + part.readings)]
        assert offsets == [100 + k for k in range(5) if not bits[k]]
