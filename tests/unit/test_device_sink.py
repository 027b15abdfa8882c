"""The sink of a device on a real log: what is told in which order, and what the process after a crash is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.contract import Batch, Filled, Flag, Gap, Origin, Remembered, SystemClock, ValueType
from gateway.log import LogStore, Writer
from gateway.log.records import BatchRecord, EventRecord, Labels, NoteRecord, Record
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import NOTE_BYTES, DeviceCounters, DeviceSink
from gateway.runtime.supervisor import DeviceState, Supervisor
from tests.support.logs import crash
from tests.unit.test_normaliser import define


class Gateway:
    """One device's path on the log in `folder`."""

    def __init__(self, folder: Path, commit_s: float) -> None:
        self.clock = SystemClock()
        self.store, self.recovery = LogStore.open(folder, identity="box", clock=self.clock)
        self.writer = Writer(
            self.store,
            next_n=self.recovery.next_n,
            commit_s=commit_s,
            clock=self.clock,
            on_commit=lambda _: None,
        )
        table = PointTable()
        table.apply(self.recovery.records)
        now = self.clock.time_ns

        def begin(stream: Any) -> None:
            table.apply([stream])
            self.writer.write_now([stream])

        streams = Streams(table, continue_old=self.recovery.continuity is None, now=now, begin=begin)
        self.registry = Registry(table, streams, now=now, write=lambda records: discard(self.writer.write_now(records)))
        self.table = table
        self.streams = streams

    def sink(self) -> DeviceSink:
        points = [define("a"), define("b"), define("secret", Labels("production", 3, "general"))]
        bound = self.registry.bind(DeviceDefinition("d", None, "test", points))
        gaps = Gaps(
            "d",
            list(dict.fromkeys(record.stream for record in self.table.points("d").values())),
            now=self.clock.time_ns,
            write=lambda event: discard(self.writer.write_now([event])),
            points=lambda: self.table.points("d"),
        )
        gaps.resume(self.recovery.open_gaps)
        self.gaps = gaps
        adapter: Any = None
        return DeviceSink(
            "d",
            Normaliser("d", self.table, self.registry),
            self.writer,
            gaps,
            DeviceCounters(),
            link=Supervisor("d", adapter, bound, gaps, DeviceState(), self.clock),
            describe=partial(self.registry.describe, "d"),
            left=self.recovery.left.get("d"),
        )

    def records(self) -> list[Record]:
        return [record for segment in self.store.read(0, 10**9) for record in segment.records]


def discard(_: object) -> None: ...


@asynccontextmanager
async def killed(folder: Path, commit_s: float = 0.01) -> AsyncIterator[Gateway]:
    """A gateway that takes no leave of its log at the end of the block; all that was written is committed."""
    gateway = Gateway(folder, commit_s)
    async with gateway.writer:
        yield gateway
    crash(gateway.store)


def readings(*points: int, at: int = 5) -> Batch:
    return Batch.of("d", ValueType.INT64, list(points), list(points), received_time=at * 10**9, monotonic=1)


async def test_remembered_after_a_crash(tmp_path: Path) -> None:
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        assert sink.remembered() is None
        await sink.offer([readings(0)], Origin("urn:s", 1, 77))
        await sink.remember({"server": "urn:s", "subscriptions": {"500 ms": 2}})
        receipt = await sink.offer([readings(0, 2)], Origin("urn:s", 2, 5))
        await receipt.durable()
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        note = {"server": "urn:s", "subscriptions": {"500 ms": 2}}
        assert sink.remembered() == Remembered(note, (Origin("urn:s", 2, 5),))
        await (await sink.remember({"server": "urn:t"})).durable()
        assert sink.remembered() == Remembered(note, (Origin("urn:s", 2, 5),)), "what the process before left"
    async with killed(tmp_path / "log") as gateway:
        assert gateway.sink().remembered() == Remembered({"server": "urn:t"}, ())


async def test_readings_from_history_say_nothing_of_now(tmp_path: Path) -> None:
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        await sink.offer([readings(0, at=5)])
        gateway.gaps.begin(5 * 10**9, "device-down")
        past = replace(readings(0, 2, at=9), flags=np.full(2, Flag.BACKFILLED, np.uint8))
        await sink.offer([past])
        assert sink.outage() is not None, "the link is as dead as before"
        assert sink.covered_until == 5 * 10**9
        await sink.offer([past, readings(0, at=11)])
        assert sink.outage() is None
        assert sink.covered_until == 11 * 10**9


@pytest.mark.parametrize(
    ("sampled", "covered"),
    [(10.0, 10.0), (8.5, 8.5), (11.0, 10.0), (-60.0, 10.0)],
    ids=["now", "late", "fast", "quiet"],
)
async def test_what_is_sampled_after_a_late_reading_is_not_covered(
    tmp_path: Path, sampled: float, covered: float
) -> None:
    """A gap begins there: missing values between its source time and its arrival would lie outside."""
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        at = np.full(1, int(sampled * 1e9))
        await sink.offer([replace(readings(0, at=10), source_time=at)])
        assert sink.covered_until == int(covered * 1e9)


async def test_a_note_is_in_the_log_before_what_is_offered_later(tmp_path: Path) -> None:
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        for number in range(20):
            await sink.remember({"number": number})
            receipt = await sink.offer([readings(0)], Origin("urn:s", number, 1))
        await receipt.durable()
        order = [
            record.note["number"] if isinstance(record, NoteRecord) else record.origin.subscription
            for record in gateway.records()
            if isinstance(record, NoteRecord) or (isinstance(record, BatchRecord) and record.origin)
        ]
    assert order == [number for number in range(20) for _ in "no"]


async def test_a_note_is_as_it_was_when_it_was_given(tmp_path: Path) -> None:
    async with killed(tmp_path / "log", commit_s=5.0) as gateway:
        sink = gateway.sink()
        note = {"items": [1]}
        await sink.offer([readings(0)])
        await sink.remember(note)
        note["items"].append(2)
    async with killed(tmp_path / "log") as gateway:
        found = gateway.sink().remembered()
        assert found is not None
        assert found.note == {"items": [1]}


@pytest.mark.parametrize("note", [{"x": "y" * NOTE_BYTES}, {"x": object()}, {"x": b"bytes"}])
async def test_a_note_that_the_log_cannot_take_is_refused(tmp_path: Path, note: dict[str, Any]) -> None:
    async with killed(tmp_path / "log") as gateway:
        sink = gateway.sink()
        with pytest.raises(ValueError, match="d: a note"):
            await sink.remember(note)
        assert sink.commit_s == 0.01
    async with killed(tmp_path / "log") as gateway:
        assert gateway.sink().remembered() is None


async def test_a_filled_gap_is_told_after_the_readings_that_fill_it(tmp_path: Path) -> None:
    async with killed(tmp_path / "log", commit_s=0.001) as gateway:
        sink = gateway.sink()
        gateway.gaps.begin(1 * 10**9, "device-down")
        outage = sink.outage()
        assert outage is not None
        assert (outage.start, outage.reason) == (1 * 10**9, "device-down")
        for _ in range(50):
            receipt = await sink.offer([readings(0, 1, 2)])
            sink.filled(Filled(outage.id, 1 * 10**9, 5 * 10**9, 3))
        await receipt.durable()
        await gateway.writer.flush()
        assert sink.outage() is None
        told = [
            record.n if isinstance(record, BatchRecord) else "filled"
            for record in gateway.records()
            if isinstance(record, BatchRecord) or is_filled(record)
        ]
    # Two streams: each offer is two batches, each event is told twice.
    kinds = [entry == "filled" for entry in told]
    assert kinds == [False, False, True, True] * 50


def is_filled(record: Record) -> bool:
    return isinstance(record, EventRecord) and record.body["schema"] == "gap-filled/1"


async def filled_bodies(tmp_path: Path, tell: Callable[[DeviceSink], None]) -> list[tuple[str, dict[str, Any]]]:
    async with killed(tmp_path / "log") as gateway:
        tell(gateway.sink())
        await gateway.writer.flush()
        labels = gateway.table.labels
        return [
            (str(labels(record.stream).grade), record.body)
            for record in gateway.records()
            if isinstance(record, EventRecord) and is_filled(record)
        ]


async def test_whoever_was_told_of_a_gap_is_told_that_it_was_filled(tmp_path: Path) -> None:
    def tell(sink: DeviceSink) -> None:
        id = sink.gap(Gap((0, 1), 1, 9, "overflow"))
        sink.filled(Filled(id, 1, 9, 12))

    ((grade, body),) = await filled_bodies(tmp_path, tell)
    assert grade == "1", "not the stream of the secret point"
    assert (body["points"], body["count"], body["of"]) == (None, 12, "d")


async def test_filled_points_are_named_in_their_own_stream_alone(tmp_path: Path) -> None:
    def tell(sink: DeviceSink) -> None:
        id = sink.gap(Gap((), 1, 9, "device-down"))
        sink.filled(Filled(id, 1, 9, 12, (0, 2)))

    found = dict(await filled_bodies(tmp_path, tell))
    assert {grade: body["points"] for grade, body in found.items()} == {"1": ["a"], "3": ["secret"]}
    assert {body["count"] for body in found.values()} == {None}, "how many were of which stream is not known"
    assert len({body["id"] for body in found.values()}) == 1


async def test_an_outage_that_an_earlier_start_began_keeps_its_id(tmp_path: Path) -> None:
    async with killed(tmp_path / "log") as gateway:
        gateway.sink()
        gateway.gaps.begin(3 * 10**9 + 7, "gateway-down")
        await gateway.writer.flush()
        begun = gateway.gaps.outage()
    async with killed(tmp_path / "log") as gateway:
        assert gateway.sink().outage() == begun
        assert begun is not None
        assert begun.start == 3 * 10**9 + 7, "to the nanosecond"
