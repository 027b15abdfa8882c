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
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch, Flag, ValueType
from gateway.contract.config import DerivedPointConfig
from gateway.contract.status import (
    BAD_NO_DATA,
    BAD_OUT_OF_RANGE,
    BAD_TYPE_MISMATCH,
    CODE_MASK,
)
from gateway.derive.check import in_order
from gateway.derive.expression import Expression
from gateway.derive.filters import outside
from gateway.derive.rows import NEVER, Rows, joined, widened
from gateway.derive.windows import Window
from gateway.log.records import BatchRecord

_NUMBERS: Final = (ValueType.BOOL, ValueType.INT64, ValueType.UINT64, ValueType.FLOAT32, ValueType.FLOAT64)
_CARRIED: Final = np.uint8(Flag.MAINTENANCE)
"""of the flags of an operand the one that is true of the result too"""


class _Derived(Protocol):
    """One derived point."""

    operands: tuple[str, ...]
    type: ValueType

    def compute(self, held: Mapping[str, Rows], new: Mapping[str, Rows]) -> Rows | None:
        """Its readings for what its operands have anew; None where that makes none."""
        ...


class _Computed:
    """A point with an expression."""

    def __init__(self, text: str, max_age: float | None) -> None:
        self.expression = Expression(text)
        self.operands = self.expression.names
        self.type = ValueType.BOOL if self.expression.is_bool else ValueType.FLOAT64
        self.max_age = None if max_age is None else round(max_age * 1e9)
        """ns"""

    def compute(self, held: Mapping[str, Rows], new: Mapping[str, Rows]) -> Rows | None:
        """See `_Derived`."""
        fresh = [new[name].time for name in self.operands if name in new]
        if not fresh:
            return None
        steps = fresh[0]
        if any(len(each) != 1 or each[0] != steps[0] for each in fresh[1:]) or (len(fresh) > 1 and len(steps) != 1):
            steps = np.unique(np.concatenate(fresh))
        operands = [_at(steps, held.get(name, NEVER), new.get(name)) for name in self.operands]
        time = np.maximum.reduce([each.time for each in operands])
        if len(time) > 1 and not (last := np.append(time[1:] != time[:-1], True)).all():
            time, operands = time[last], [each.take(last) for each in operands]
        return self._result(time, operands)

    def _result(self, time: npt.NDArray[np.int64], operands: Sequence[Rows]) -> Rows:
        columns, statuses = {}, []
        for name, operand in zip(self.operands, operands, strict=True):
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

    def __init__(self, device: str, derived: Sequence[DerivedPointConfig]) -> None:
        self._device = device
        ordered = [derived[place] for place in in_order(derived)]
        self._points = {config.point: _made(config) for config in ordered}
        self._ranges = {config.point: config.range for config in ordered if config.range is not None}
        self._operands = sorted({name for point in self._points.values() for name in point.operands})
        self._held: dict[str, Rows] = {}
        self._slot = np.zeros(0, np.int32)
        self._entries: Mapping[str, tuple[int, str]] = {}

    def records(self, records: Sequence[BatchRecord]) -> list[BatchRecord]:
        """The records of the derived points that follow from what was offered together."""
        new = self._gathered(records)
        if not new:
            return []
        made: dict[str, Rows] = {}
        for name, point in self._points.items():
            if (rows := point.compute(self._held, new)) is not None:
                if name in self._ranges:
                    rows = rows._replace(status=outside(rows.value, rows.status, *self._ranges[name]))
                new[name] = made[name] = rows
        for name in self._operands:
            if name in new:
                self._held[name] = new[name].take(slice(-1, None))
        return self._batches(made, records)

    def learn(self, entries: Mapping[str, tuple[int, str]], size: int) -> None:
        """Where points stand now: index and stream by name, and one more than the highest index."""
        self._entries = entries
        self._slot = np.full(size, -1, np.int32)
        for slot, name in enumerate(self._operands):
            if name in entries:
                self._slot[entries[name][0]] = slot

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
        all_rows = joined(parts)
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
        for name, rows in made.items():
            index, stream = self._entries[name]
            groups.setdefault((stream, self._points[name].type), []).append((index, rows))
        received = max(record.batch.received_time for record in records)
        monotonic = max(record.batch.monotonic for record in records)
        return [
            BatchRecord(stream, _batch(self._device, type, group, received, monotonic))
            for (stream, type), group in groups.items()
        ]


def value_types(derived: Iterable[DerivedPointConfig]) -> dict[str, ValueType]:
    """What the readings of derived points are, by name."""
    return {config.point: _made(config).type for config in derived}


def _made(config: DerivedPointConfig) -> _Derived:
    if config.window is not None:
        return Window(config.window)
    return _Computed(config.expression or "", config.max_age)


def _rows(batch: Batch, rows: npt.NDArray[np.intp]) -> Rows:
    """Readings of a batch as operands: numbers, or Bad."""
    status = batch.status[rows] & np.uint32(CODE_MASK)
    if batch.type in _NUMBERS:
        valid = batch.valid[rows]
        values = batch.values[rows]
        wide = widened(values) if batch.type is ValueType.FLOAT32 else values.astype(np.float64)
        value = np.where(valid, wide, np.nan)
        status = np.where(valid | (status >= 0x80000000), status, np.uint32(BAD_NO_DATA))
    else:
        value = np.full(len(rows), np.nan)
        status = np.where(status >= 0x80000000, status, np.uint32(BAD_TYPE_MISMATCH))
    return Rows(batch.source_time[rows], value, status, batch.basis[rows], batch.flags[rows] & _CARRIED)


def _fresh(rows: Rows, held: Rows | None) -> Rows:
    """Without what is older than what the operand already has; of equal times the last."""
    if len(rows.time) == 1:
        return rows if held is None or rows.time[0] >= held.time[-1] else rows.take(slice(0))
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
    return joined([held, new]).take(last)


def _worst(statuses: Sequence[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """The code of the worst severity; of equally bad operands that of the first."""
    worst = statuses[0]
    for status in statuses[1:]:
        worst = np.where(status >> 30 > worst >> 30, status, worst)
    return worst


def _batch(device: str, type: ValueType, group: Sequence[tuple[int, Rows]], received: int, monotonic: int) -> Batch:
    counts = [len(rows.time) for _, rows in group]
    rows = joined([rows for _, rows in group])
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
