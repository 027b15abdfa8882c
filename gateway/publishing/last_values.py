"""The last reading of every point, as columns per device: what an image of the plant is made from.

Follows the log behind the commit. Batches are only noted; now and then a device's are gone through from the newest to
the oldest, and what they hold of points not seen yet is put into the columns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import NO_TIME, Batch, Flag, ValueType
from gateway.log.records import BatchRecord, Segment

_LEAST_POINTS = 16
_NEVER = -1
_MOST_NOTED = 64
"""batches of a device"""
_NOTED_PER_POINT = 8
"""readings of a device: so many are noted, and kept in memory, for each of its points"""
_LEAST_NOTED = 4_096
"""readings of a device that may be noted in any case"""
_BACKFILLED = np.uint8(Flag.BACKFILLED)


Noted = tuple[int, Batch]
"""position of the segment, and one of its batches"""


@dataclass(slots=True)
class _Columns:
    """One device. Row = the point's permanent index."""

    position: npt.NDArray[np.int64]
    """int64: of the segment that the reading lies in; -1 = none yet"""
    source_time: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint32]
    valid: npt.NDArray[np.bool_]
    basis: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    type: npt.NDArray[np.uint8]
    """uint8 of `ValueType`: which of `values` holds the value"""
    values: dict[ValueType, npt.NDArray[Any]] = field(default_factory=dict)
    original: npt.NDArray[np.int64] | None = None
    """int64, as `Batch.original_time`; None = no reading had one"""
    noted: list[Noted] = field(default_factory=list)
    """batches that are not in the columns yet, in the order of the log"""
    readings: int = 0
    """in `noted`"""

    @classmethod
    def of(cls, size: int) -> _Columns:
        return cls(
            np.full(size, _NEVER, np.int64),
            np.zeros(size, np.int64),
            np.zeros(size, np.uint32),
            np.zeros(size, np.bool_),
            np.zeros(size, np.uint8),
            np.zeros(size, np.uint8),
            np.zeros(size, np.uint8),
        )

    def grown(self, size: int) -> _Columns:
        """The same with room for more points."""
        new = _Columns.of(size)
        old = len(self.position)
        for name in ("position", "source_time", "status", "valid", "basis", "flags", "type"):
            getattr(new, name)[:old] = getattr(self, name)
        for type, column in self.values.items():
            new.column(type)[:old] = column
        if self.original is not None:
            new.originals()[:old] = self.original
        return new

    def settle(self) -> None:
        """Put what is noted into the columns: of each point the last reading, and what is older only by the way."""
        noted, self.noted, self.readings = self.noted, [], 0
        seen = np.zeros(len(self.position), np.bool_)
        last: list[Noted] = []
        for position, batch in reversed(noted):
            old = seen[batch.points]
            if old.all():
                continue
            fresh = batch.take(~old) if old.any() else batch
            seen[fresh.points] = True
            last.append((position, fresh))
        for type in {batch.type for _, batch in last}:
            self.put([(position, batch) for position, batch in reversed(last) if batch.type == type])

    def put(self, noted: Sequence[Noted]) -> None:
        """Put batches of one type into the columns; of a point that comes twice, the last reading stays."""
        batches = [batch for _, batch in noted]
        at = _joined(batches, lambda batch: batch.points)
        self.position[at] = np.repeat([position for position, _ in noted], [len(batch) for batch in batches])
        self.source_time[at] = _joined(batches, lambda batch: batch.source_time)
        self.status[at] = _joined(batches, lambda batch: batch.status)
        self.valid[at] = _joined(batches, lambda batch: batch.valid)
        self.basis[at] = _joined(batches, lambda batch: batch.basis)
        self.flags[at] = _joined(batches, lambda batch: batch.flags)
        self.type[at] = batches[0].type
        self.column(batches[0].type)[at] = _joined(batches, lambda batch: batch.values)
        if self.original is not None or any(batch.original_time is not None for batch in batches):
            self.originals()[at] = _joined(batches, _original_times)

    def column(self, type: ValueType) -> npt.NDArray[Any]:
        """The values of a type, made when they are needed first."""
        found = self.values.get(type)
        if found is None:
            found = self.values[type] = np.zeros(len(self.position), type.dtype)
        return found

    def originals(self) -> npt.NDArray[np.int64]:
        """The original times, made when they are needed first."""
        if self.original is None:
            self.original = np.full(len(self.position), NO_TIME, np.int64)
        return self.original


class LastValues:
    """Feed it segments; the newest of the log wins, but for what was filled in later and is older."""

    def __init__(self) -> None:
        self._devices: dict[str, _Columns] = {}

    def devices(self) -> Iterable[str]:
        """Names of all devices of which a reading is known."""
        return tuple(self._devices)

    def take(self, segments: Iterable[Segment], *, fill: bool = False) -> None:
        """Segments in the order of the log; with `fill` in any order: what is older replaces nothing."""
        for segment in segments:
            for record in segment.records:
                if isinstance(record, BatchRecord):
                    self._take(segment.position, record.batch, fill)

    def batches(self, device: str, since: npt.NDArray[np.int64], *, received_time: int, monotonic: int) -> list[Batch]:
        """Copies of the last readings, one batch for each value type, points in the order of their indexes.

        `since` (int64[n], by index): only what lies at this position of the log or later; the points that follow
        are left out.
        """
        columns = self._devices.get(device)
        if columns is None:
            return []
        columns.settle()
        n = min(len(since), len(columns.position))
        known = (columns.position[:n] != _NEVER) & (columns.position[:n] >= since[:n])
        found = []
        for type, values in sorted(columns.values.items()):
            rows = np.flatnonzero(known & (columns.type[:n] == type))
            if len(rows):
                found.append(
                    Batch.of(
                        device,
                        type,
                        rows,
                        values[rows],
                        received_time=received_time,
                        monotonic=monotonic,
                        valid=columns.valid[rows],
                        status=columns.status[rows],
                        source_time=columns.source_time[rows],
                        basis=columns.basis[rows],
                        flags=columns.flags[rows],
                        original_time=None if columns.original is None else columns.original[rows],
                    )
                )
        return found

    def _take(self, position: int, batch: Batch, fill: bool) -> None:
        columns = self._room(batch)
        if not fill and not (batch.flags & _BACKFILLED).any():
            columns.noted.append((position, batch))
            columns.readings += len(batch)
            most = max(_LEAST_NOTED, _NOTED_PER_POINT * len(columns.position))
            if len(columns.noted) >= _MOST_NOTED or columns.readings > most:
                columns.settle()
            return
        columns.settle()
        if fill:
            at = batch.points
            backfilled = (columns.flags[at] & _BACKFILLED) != 0
            fresh = (columns.position[at] < position) | (backfilled & (columns.source_time[at] < batch.source_time))
            batch = batch if fresh.all() else batch.take(fresh)
        if (batch.flags & _BACKFILLED).any():
            batch = batch.take(_in_time_order(batch, columns))
        if len(batch):
            columns.put([(position, batch)])

    def _room(self, batch: Batch) -> _Columns:
        """The device's columns, with a row for every point of the batch."""
        columns = self._devices.get(batch.device)
        size = int(batch.points.max()) + 1
        if columns is None:
            columns = self._devices[batch.device] = _Columns.of(max(_LEAST_POINTS, size))
        elif size > len(columns.position):
            columns.settle()
            columns = self._devices[batch.device] = columns.grown(max(size, 2 * len(columns.position)))
        return columns


def _in_time_order(batch: Batch, columns: _Columns) -> npt.NDArray[np.int64]:
    """Rows of a batch from a history that are newer than what is known, the youngest of each point last."""
    at = batch.points
    newer = (columns.position[at] == _NEVER) | (batch.source_time >= columns.source_time[at])
    rows = np.flatnonzero(newer | ((batch.flags & _BACKFILLED) == 0))
    return rows[np.argsort(batch.source_time[rows], kind="stable")]


def _joined(batches: Sequence[Batch], of: Callable[[Batch], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return of(batches[0]) if len(batches) == 1 else np.concatenate([of(batch) for batch in batches])


def _original_times(batch: Batch) -> npt.NDArray[np.int64]:
    return np.full(len(batch), NO_TIME) if batch.original_time is None else batch.original_time
