"""Derived points of one device at run time: one evaluation each for whatever an adapter offers together.

A derived point is computed whenever one of its operands got new readings: once for each of their source times, the
other operands held at their last value. The result carries the time of its newest operand; of results with the same
time one offer makes one, the last. What is older than what an operand already has (late and backfilled readings)
changes no result that was given.

Its status is the worst of its operands'; an operand that never had a reading, is older than `max_age`, has no value or
is no number makes it Bad, and so does a result that is no finite number. A Bad result has no value (Part 4, 7.39.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch, Flag, ValueType
from gateway.contract.config import DerivedPointConfig
from gateway.contract.status import (
    BAD_NO_DATA,
    BAD_OUT_OF_RANGE,
    BAD_TYPE_MISMATCH,
    BAD_WAITING_FOR_INITIAL_DATA,
    CODE_MASK,
)
from gateway.derive.check import in_order
from gateway.derive.expression import Expression
from gateway.log.records import BatchRecord
from gateway.points.table import PointTable

_NUMBERS: Final = (ValueType.BOOL, ValueType.INT64, ValueType.UINT64, ValueType.FLOAT32, ValueType.FLOAT64)
_CARRIED: Final = np.uint8(Flag.MAINTENANCE)
"""of the flags of an operand the one that is true of the result too"""


class Rows(NamedTuple):
    """Readings of one point by source time, which is strictly increasing; the value of a Bad one is NaN."""

    time: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint32]
    basis: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]

    def take(self, rows: Any) -> Rows:
        """Those that `rows` selects."""
        return Rows(*(column[rows] for column in self))


_NEVER: Final = Rows(
    np.array([np.iinfo(np.int64).min]),
    np.array([np.nan]),
    np.array([BAD_WAITING_FOR_INITIAL_DATA], np.uint32),
    np.zeros(1, np.uint8),
    np.zeros(1, np.uint8),
)
"""of an operand that never had a reading"""


@dataclass(frozen=True, slots=True)
class _Point:
    """One derived point."""

    name: str
    expression: Expression
    max_age: int | None
    """ns"""

    def compute(self, held: Mapping[str, Rows], new: Mapping[str, Rows]) -> Rows | None:
        """Its readings for what its operands have anew; None where none of them has."""
        fresh = [new[name].time for name in self.expression.names if name in new]
        if not fresh:
            return None
        steps = fresh[0] if len(fresh) == 1 else np.unique(np.concatenate(fresh))
        operands = [_at(steps, held.get(name, _NEVER), new.get(name)) for name in self.expression.names]
        time = np.maximum.reduce([each.time for each in operands])
        last = np.append(time[1:] != time[:-1], True)
        if not last.all():
            time, operands = time[last], [each.take(last) for each in operands]
        return self._result(time, operands)

    def _result(self, time: npt.NDArray[np.int64], operands: Sequence[Rows]) -> Rows:
        columns, statuses = {}, []
        for name, operand in zip(self.expression.names, operands, strict=True):
            columns[name], status = operand.value, operand.status
            if self.max_age is not None:
                # Never had any: too old, but that is not what is wrong with it.
                stale = (time - np.maximum(operand.time, 0) > self.max_age) & (status < 0x80000000)
                status = np.where(stale, np.uint32(BAD_NO_DATA), status)
            statuses.append(status)
        status = _worst(statuses)
        value = np.where(status < 0x80000000, self.expression.evaluate(columns), np.nan)
        status = np.where(np.isnan(value) & (status < 0x80000000), np.uint32(BAD_OUT_OF_RANGE), status)
        basis = np.maximum.reduce([each.basis for each in operands])
        return Rows(time, value, status, basis, np.bitwise_or.reduce([each.flags for each in operands]))


class Deriver:
    """Computes the derived points of one device from its canonical records."""

    def __init__(self, device: str, derived: Sequence[DerivedPointConfig], table: PointTable) -> None:
        self._device = device
        self._table = table
        self._points = [_made(derived[place]) for place in in_order(derived)]
        self._operands = sorted({name for point in self._points for name in point.expression.names})
        self._held: dict[str, Rows] = {}
        self._version = -1
        self._slot = np.zeros(0, np.int32)
        self._entries: dict[str, tuple[int, str]] = {}

    def records(self, records: Sequence[BatchRecord]) -> list[BatchRecord]:
        """The records of the derived points that follow from what was offered together."""
        if self._version != self._table.version(self._device):
            self._learn()
        new = self._gathered(records)
        if not new:
            return []
        made: dict[str, Rows] = {}
        for point in self._points:
            if (rows := point.compute(self._held, new)) is not None:
                new[point.name] = made[point.name] = rows
        for name in self._operands:
            if name in new:
                self._held[name] = new[name].take(slice(-1, None))
        return self._batches(made, records)

    def _learn(self) -> None:
        """Where operands and results stand in the point table now; indexes change when a source changes a type."""
        self._version = self._table.version(self._device)
        entries = self._table.points(self._device)
        self._entries = {
            record.point: (index, record.stream) for index, record in entries.items() if record.retired_at is None
        }
        self._slot = np.full(max(entries, default=-1) + 1, -1, np.int32)
        for slot, name in enumerate(self._operands):
            if name in self._entries:
                self._slot[self._entries[name][0]] = slot

    def _gathered(self, records: Sequence[BatchRecord]) -> dict[str, Rows]:
        """New readings of operands that are read, by name."""
        slots, parts = [], []
        for record in records:
            batch = record.batch
            slot = self._slot[batch.points]
            rows = np.flatnonzero((slot >= 0) & (batch.flags & np.uint8(Flag.BACKFILLED) == 0))
            if rows.size:
                slots.append(slot[rows])
                parts.append(_rows(batch, rows))
        if not parts:
            return {}
        slot = slots[0] if len(slots) == 1 else np.concatenate(slots)
        all_rows = _joined(parts)
        order = np.lexsort((all_rows.time, slot))
        slot, all_rows = slot[order], all_rows.take(order)
        found: dict[str, Rows] = {}
        starts = np.flatnonzero(np.append(True, slot[1:] != slot[:-1]))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(slot)], strict=True):
            name = self._operands[slot[start]]
            rows_of = _fresh(all_rows.take(slice(start, end)), self._held.get(name))
            if len(rows_of.time):
                found[name] = rows_of
        return found

    def _batches(self, made: Mapping[str, Rows], records: Sequence[BatchRecord]) -> list[BatchRecord]:
        """One record for all results of the same stream and type."""
        groups: dict[tuple[str, ValueType], list[tuple[int, Rows]]] = {}
        for point in self._points:
            if point.name in made:
                index, stream = self._entries[point.name]
                type = ValueType.BOOL if point.expression.is_bool else ValueType.FLOAT64
                groups.setdefault((stream, type), []).append((index, made[point.name]))
        received = max(record.batch.received_time for record in records)
        monotonic = max(record.batch.monotonic for record in records)
        return [
            BatchRecord(stream, _batch(self._device, type, group, received, monotonic))
            for (stream, type), group in groups.items()
        ]


def value_types(derived: Iterable[DerivedPointConfig]) -> dict[str, ValueType]:
    """What the readings of derived points are, by name."""
    return {
        point.point: ValueType.BOOL if Expression(point.expression).is_bool else ValueType.FLOAT64 for point in derived
    }


def _made(config: DerivedPointConfig) -> _Point:
    age = None if config.max_age is None else round(config.max_age * 1e9)
    return _Point(config.point, Expression(config.expression), age)


def _rows(batch: Batch, rows: npt.NDArray[np.intp]) -> Rows:
    """Readings of a batch as operands: numbers, or Bad."""
    status = batch.status[rows] & np.uint32(CODE_MASK)
    if batch.type in _NUMBERS:
        valid = batch.valid[rows]
        value = np.where(valid, batch.values[rows].astype(np.float64), np.nan)
        status = np.where(valid | (status >= 0x80000000), status, np.uint32(BAD_NO_DATA))
    else:
        value = np.full(len(rows), np.nan)
        status = np.where(status >= 0x80000000, status, np.uint32(BAD_TYPE_MISMATCH))
    return Rows(batch.source_time[rows], value, status, batch.basis[rows], batch.flags[rows] & _CARRIED)


def _fresh(rows: Rows, held: Rows | None) -> Rows:
    """Without what is older than what the operand already has; of equal times the last."""
    keep = np.append(rows.time[1:] != rows.time[:-1], True)
    if held is not None:
        keep &= rows.time >= held.time[-1]
    return rows if keep.all() else rows.take(keep)


def _at(steps: npt.NDArray[np.int64], held: Rows, new: Rows | None) -> Rows:
    """An operand at each step: its newest reading until then."""
    if new is None:
        return held.take(np.zeros(len(steps), np.intp))
    if len(new.time) == len(steps):
        return new  # steps are the times of all operands, so these are the same
    last = np.searchsorted(new.time, steps, "right")
    return _joined([held, new]).take(last)


def _joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    columns: Iterable[Any] = zip(*parts, strict=True)
    return Rows(*map(np.concatenate, columns))


def _worst(statuses: Sequence[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """The code of the worst severity; of equally bad operands that of the first."""
    worst = statuses[0]
    for status in statuses[1:]:
        worst = np.where(status >> 30 > worst >> 30, status, worst)
    return worst


def _batch(device: str, type: ValueType, group: Sequence[tuple[int, Rows]], received: int, monotonic: int) -> Batch:
    counts = [len(rows.time) for _, rows in group]
    rows = _joined([rows for _, rows in group])
    valid = ~np.isnan(rows.value)
    values = np.where(valid, rows.value, 0.0)
    return Batch(
        device=device,
        type=type,
        points=np.repeat(np.array([index for index, _ in group], np.int32), counts),
        values=values.astype(type.dtype),
        valid=valid,
        status=rows.status,
        source_time=rows.time,
        basis=rows.basis,
        flags=rows.flags,
        received_time=received,
        monotonic=monotonic,
    )
