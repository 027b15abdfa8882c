"""Range check and report-by-exception on canonical records, one vector operation for each batch.

Range: a Good reading outside of its point's range becomes UncertainEngineeringUnitsExceeded (OPC UA Part 8, 5.3; the
value travels as it is). Report-by-exception: a reading is recorded when it is the point's first, its status differs
from that of the last recorded one, it moved by more than the deadband since then (Part 4, 7.22.2), or that one is
`max_silence` old. Others are left out and counted. What was backfilled fills a gap and is never left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch, Flag
from gateway.contract.config import AnyPointConfig
from gateway.contract.status import UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
from gateway.log.records import BatchRecord

_NEVER: Final = np.iinfo(np.int64).min
_FOREVER: Final = np.iinfo(np.int64).max


def outside(values: npt.NDArray[Any], status: npt.NDArray[np.uint32], low: Any, high: Any) -> npt.NDArray[np.uint32]:
    """The statuses with that of the range check where a Good value is not within low..high, as NaN is not."""
    with np.errstate(invalid="ignore"):
        beyond = ~((values >= low) & (values <= high)) & (status >> 30 == 0)
    return np.where(beyond, np.uint32(UNCERTAIN_ENGINEERING_UNITS_EXCEEDED), status) if beyond.any() else status


class Ranges:
    """The range check of the points that are read."""

    def __init__(self, points: Sequence[AnyPointConfig]) -> None:
        self._configs = {point.point: point.range for point in points if point.range is not None}
        self._limits = np.zeros((0, 2))

    def learn(self, entries: Mapping[str, tuple[int, str]], size: int) -> None:
        """Where points stand now: index and stream by name, and one more than the highest index."""
        self._limits = np.tile(np.array([-np.inf, np.inf]), (size, 1))
        self._ranged = np.zeros(size, np.bool_)
        for name, limits in self._configs.items():
            index = entries[name][0]
            self._limits[index] = limits
            self._ranged[index] = True

    def checked(self, records: Sequence[BatchRecord]) -> list[BatchRecord]:
        """The records with the statuses of those that are outside."""
        return [self._checked(record) for record in records]

    def _checked(self, record: BatchRecord) -> BatchRecord:
        batch = record.batch
        rows = self._ranged[batch.points]
        if batch.values.dtype.kind not in "iuf" or not rows.any():
            return record
        low, high = self._limits[batch.points].T
        status = outside(batch.values, batch.status, low, high)
        if status is batch.status:
            return record
        status = np.where(rows & batch.valid, status, batch.status)
        return replace(record, batch=replace(batch, status=status))


class ReportByException:
    """Leaves out readings that say nothing new."""

    def __init__(self, points: Sequence[AnyPointConfig]) -> None:
        self._configs = {point.point: point for point in points if point.smallest_change is not None}
        self.filtered = 0
        """readings left out since the start"""
        self._names: dict[str, int] = {}

    def learn(self, entries: Mapping[str, tuple[int, str]], size: int) -> None:
        """Where points stand now; a point under another index begins anew."""
        old, known = self.__dict__.copy(), dict(self._names)
        self._names = {name: entries[name][0] for name in self._configs}
        self._change = np.full(size, np.nan)
        self._silence = np.full(size, _FOREVER)
        self._time = np.full(size, _NEVER)
        self._value = np.full(size, np.nan)
        self._valid = np.zeros(size, np.bool_)
        self._status = np.zeros(size, np.uint32)
        self._object = np.full(size, None, object)
        for name, index in self._names.items():
            config = self._configs[name]
            self._change[index] = config.smallest_change
            if config.max_silence is not None:
                self._silence[index] = round(config.max_silence * 1e9)
            if known.get(name) == index:
                for column in ("_time", "_value", "_valid", "_status", "_object"):
                    getattr(self, column)[index] = old[column][index]

    def passed(self, records: Sequence[BatchRecord]) -> list[BatchRecord]:
        """The records without the readings that say nothing new; without those that have none left."""
        kept = []
        for record in records:
            batch = record.batch
            rows = ~np.isnan(self._change[batch.points]) & (batch.flags & np.uint8(Flag.BACKFILLED) == 0)
            if rows.any():
                out = self._left_out(batch, np.flatnonzero(rows))
                if out.size:
                    self.filtered += int(out.size)
                    if out.size == len(batch):
                        continue
                    keep = np.ones(len(batch), np.bool_)
                    keep[out] = False
                    record = replace(record, batch=batch.take(keep))  # noqa: PLW2901 - the same one, with less in it
            kept.append(record)
        return kept

    def _left_out(self, batch: Batch, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Rows that say nothing new. Readings of one point are compared in their order: the first of each, then the
        second of each, and so on.
        """
        points = batch.points[rows]
        order = np.argsort(points, kind="stable")
        points, rows = points[order], rows[order]
        first = np.append(True, points[1:] != points[:-1])
        if first.all():
            return rows[~self._news(batch, rows, points)]
        rank = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
        out = []
        for turn in range(int(rank.max()) + 1):
            these = rank == turn
            out.append(rows[these][~self._news(batch, rows[these], points[these])])
        return np.concatenate(out)

    def _news(self, batch: Batch, rows: npt.NDArray[np.intp], points: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which rows, of a point each, are recorded; those become what the next is compared with."""
        time, status, valid = batch.source_time[rows], batch.status[rows], batch.valid[rows]
        last = self._time[points]
        news: npt.NDArray[np.bool_] = (
            (last == _NEVER) | (status != self._status[points]) | (valid != self._valid[points]) | (time < last)
        )
        known = ~news
        news[known] = time[known] - last[known] >= self._silence[points[known]]
        if batch.values.dtype == object:
            content = batch.values[rows]
            news |= valid & np.array([one != other for one, other in zip(content, self._object[points], strict=True)])
            self._object[points[news]] = content[news]
        else:
            value = batch.values[rows].astype(np.float64)
            with np.errstate(invalid="ignore"):
                moved = np.abs(value - self._value[points]) > self._change[points]
            news |= valid & (moved | (np.isnan(value) != np.isnan(self._value[points])))
            self._value[points[news]] = value[news]
        changed = points[news]
        self._time[changed], self._status[changed], self._valid[changed] = time[news], status[news], valid[news]
        return news
