"""A log, its tail and its state store in memory, for tests of what reads them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gateway.contract import Batch, ValueType
from gateway.log.records import (
    BatchRecord,
    DeviceRecord,
    EventRecord,
    Labels,
    PointRecord,
    Record,
    Segment,
    Series,
    SeriesHead,
    Span,
    StreamRecord,
)
from gateway.log.spans import spans_of
from gateway.points.table import PointTable

NOW = 1_763_700_000_000_000_000


class FakeLog:
    """Append on the event loop; read from anywhere."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.first = 0
        self.points = PointTable()
        self.next_n: defaultdict[Series, int] = defaultdict(int)
        self._arrived: set[asyncio.Event] = set()

    # -- LogReader --

    def bounds(self) -> tuple[int, int]:
        return self.first, len(self.segments)

    def heads(self, start: int, end: int) -> list[tuple[int, list[SeriesHead]]]:
        return [(s.position, s.heads) for s in self.segments[max(start, self.first) : end]]

    def spans(self, start: int, end: int) -> Iterator[dict[Series, Span]]:
        yield spans_of(head for _, heads in self.heads(start, end) for head in heads)

    def read(self, position: int, limit_bytes: int) -> list[Segment]:
        found: list[Segment] = []
        size = 0
        for segment in self.segments[max(position, self.first) :]:
            if found and size + segment.nbytes > limit_bytes:
                break
            found.append(segment)
            size += segment.nbytes
        return found

    # -- LogTail: see `FakeTail` --

    @property
    def end(self) -> int:
        return len(self.segments)

    async def wait(self, position: int) -> None:
        while self.end <= position:
            event = asyncio.Event()
            self._arrived.add(event)
            try:
                await event.wait()
            finally:
                self._arrived.discard(event)

    # -- writing --

    def append(self, *records: Record) -> Segment:
        heads: dict[Series, SeriesHead] = {}
        for record in records:
            if isinstance(record, BatchRecord | EventRecord):
                times = record.batch.source_time.tolist() if isinstance(record, BatchRecord) else [record.time]
                series = record.series
                record.n = self.next_n[series]
                self.next_n[series] += len(times)
                known = heads.get(series, SeriesHead(series, record.n, 0, times[0], times[0]))
                heads[series] = SeriesHead(
                    series,
                    known.n,
                    known.readings + len(times),
                    min(known.min_time, *times),
                    max(known.max_time, *times),
                )
        self.points.apply(records)
        size = sum(record.batch.nbytes for record in records if isinstance(record, BatchRecord)) + 100
        segment = Segment(len(self.segments), list(records), list(heads.values()), size)
        self.segments.append(segment)
        for event in self._arrived:
            event.set()
        return segment

    def trim(self, position: int) -> list[SeriesHead]:
        gone = [head for _, heads in self.heads(self.first, position) for head in heads]
        self.first = position
        return gone


class FakeTail:
    """The newest segments of a `FakeLog`."""

    def __init__(self, log: FakeLog, in_memory: int = 5) -> None:
        self._log = log
        self._in_memory = in_memory
        self.wait = log.wait

    @property
    def end(self) -> int:
        return self._log.end

    def read(self, position: int, limit_bytes: int) -> list[Segment] | None:
        return None if position < self.end - self._in_memory else self._log.read(position, limit_bytes)


class FakeState:
    """Versions are checked as in the real one; documents go through JSON."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, str]] = {}

    def get(self, key: str) -> tuple[int, Any] | None:
        entry = self.entries.get(key)
        return None if entry is None else (entry[0], json.loads(entry[1]))

    def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
        for key, _, expected in changes:
            found = self.entries.get(key, (0, ""))[0]
            if found != expected:
                raise AssertionError(f"{key} has version {found}, expected {expected}")
        for key, value, expected in changes:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = expected + 1, json.dumps(value)
        return [0 if value is None else expected + 1 for _, value, expected in changes]

    def items(self, prefix: str) -> Iterator[tuple[str, int, Any]]:
        for key, (version, value) in sorted(self.entries.items()):
            if key.startswith(prefix):
                yield key, version, json.loads(value)


def stream(id: str = "S1", grade: int = 1, domain: str = "production", data_class: str = "general") -> StreamRecord:
    return StreamRecord(id, Labels(domain, grade, data_class), NOW)


def define(device: str = "boiler-1", count: int = 3, stream_id: str = "S1") -> list[Record]:
    """A device with points p0, p1 ... of one stream."""
    points = [
        PointRecord(device, k, f"p{k}", stream_id, 1, NOW, type=ValueType.FLOAT64, id=f"88.118.8/{device}.p{k}")
        for k in range(count)
    ]
    return [DeviceRecord(device, f"{device} 号", "modbus"), *points]


def readings(
    count: int, device: str = "boiler-1", stream_id: str = "S1", start: int = 0, points: int = 3, received: int = NOW
) -> BatchRecord:
    """`count` readings whose values are start, start + 1 ..."""
    batch = Batch.of(
        device,
        ValueType.FLOAT64,
        np.arange(count) % points,
        np.arange(start, start + count, dtype=np.float64),
        received_time=received,
        monotonic=0,
        source_time=NOW + np.arange(count, dtype=np.int64) * 1_000_000,
    )
    return BatchRecord(stream_id, batch)
