"""What a killed process left in the log's folder: where the kill hit, and what the log holds."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.log.records import BatchRecord, EventRecord, PointRecord, Series
from gateway.log.view import LogView
from simulators.centre.report import Reading

_WAL_HEAD: Final = struct.Struct(">IIIIIIII")
_FRAME_HEAD: Final = struct.Struct(">IIIIII")
_GOOD: Final = 0


def is_cut_short(wal: Path) -> bool:
    """Does a write-ahead log end within a transaction (SQLite, fileformat2, section 4.1 and 4.2)?"""
    content = wal.read_bytes() if wal.exists() else b""
    if len(content) <= _WAL_HEAD.size:
        return False
    _, _, page, _, *salts, _, _ = _WAL_HEAD.unpack_from(content)
    at, committed = _WAL_HEAD.size, True
    while at + _FRAME_HEAD.size <= len(content):
        _, size_after, *frame_salts, _, _ = _FRAME_HEAD.unpack_from(content, at)
        if frame_salts != salts:
            return not committed
        committed = size_after > 0
        at += _FRAME_HEAD.size + page
    return not committed or at != len(content)


def where_it_hit(folder: Path, seen: str | None, running: bool) -> str:
    """The name of what the process was doing: from what it left behind, else from what was `seen` as it was killed."""
    newest = max(folder.glob("data-*.db"), default=folder / "none")
    if (folder / "new.db").exists():
        return "rotation"
    if (folder / "compact.db").exists():
        return "compaction"
    if is_cut_short(newest.with_name(f"{newest.name}-wal")):
        return "commit"
    if is_cut_short(folder / "state.db-wal"):
        return "position save"
    return seen or ("elsewhere" if running else "start-up")


@dataclass(slots=True)
class Held:
    """Everything that the log was seen to hold, by series and offset: a hash of what was read."""

    readings: dict[Series, dict[int, int]] = field(default_factory=dict)
    events: dict[Series, set[int]] = field(default_factory=dict)
    next_n: dict[Series, int] = field(default_factory=dict)
    differing: int = 0
    """offsets that held something else before"""
    end: int = 0
    """position up to which it was read"""

    def learn(self, folder: Path, *, again: bool = False) -> int | None:
        """Read what is new, or all of it; returns when the first new Good reading was received, ns, None = none."""
        first: int | None = None
        with LogView(folder) as view:
            points = {(r.device, r.index): r.point for r in view.records if isinstance(r, PointRecord)}
            for segment in view.segments(lambda _: True):
                if segment.position < self.end and not again:
                    continue
                for record in segment.records:
                    if isinstance(record, EventRecord):
                        self.events.setdefault(record.series, set()).add(record.n)
                    elif isinstance(record, BatchRecord):
                        self._take(record, points)
                        batch = record.batch
                        if (batch.status == _GOOD).any() and (first is None or batch.received_time < first):
                            first = batch.received_time
            self.end = view.end
            self.next_n = dict(view.next_n)
        return first

    def _take(self, record: BatchRecord, points: dict[tuple[str, int], str]) -> None:
        batch = record.batch
        columns = (batch.points, batch.source_time, batch.values, batch.valid, batch.status)
        held = self.readings.setdefault(record.series, {})
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for n, (point, time_ns, value, valid, status) in enumerate(rows, record.n):
            content = hash((points[record.series.device, point], time_ns, value if valid else None, status))
            self.differing += held.setdefault(n, content) != content

    def compare(self, device: str, delivered: Iterable[Reading]) -> int:
        """How many of a device's readings at the centre are not what the log held at that offset."""
        other = 0
        for reading in delivered:
            content = hash((reading.point, reading.t_ns, reading.value, reading.status))
            other += self.readings.get(Series(reading.stream, device), {}).get(reading.n, content) != content
        return other
