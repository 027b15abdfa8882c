"""The normaliser of one device: scale, offset, type and stream for whole columns at a time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log.records import BatchRecord, PointRecord
from gateway.normalise.linear import IDENTITY, linear
from gateway.points.registry import Registry
from gateway.points.table import PointTable

_UNKNOWN = 255
_JSON: Final = int(ValueType.JSON)
_SCALABLE = frozenset({ValueType.INT64, ValueType.UINT64, ValueType.FLOAT32, ValueType.FLOAT64})
_MOST_SHAPES: Final = 256
_EMPTY: dict[ValueType, Any] = {ValueType.STRING: "", ValueType.BYTES: b"", ValueType.JSON: None}


class _Shape(NamedTuple):
    """Batches whose readings are canonical but for their indexes, and all of one stream."""

    points: npt.NDArray[np.int32]
    type: ValueType
    stream: str
    target: npt.NDArray[np.int32] | None
    """the indexes that the points have now; None = the same"""

    def fit(self, batch: Batch) -> Batch:
        """The canonical batch."""
        return batch if self.target is None else replace(batch, points=self.target)


class Normaliser:
    """Turns an adapter's batches into batch records of the log.

    Scaled integers become FLOAT64; scaled FLOAT32 stays FLOAT32, the precision of its source. A value of another type
    than its point's entry makes a new entry (the source changed); a null goes to a batch of its point's known type.
    """

    def __init__(self, device: str, table: PointTable, registry: Registry) -> None:
        self._device = device
        self._table = table
        self._registry = registry
        self._streams: list[str] = []
        self._learn()

    def records(self, batches: Sequence[Batch], origin: Origin | None = None) -> list[BatchRecord]:
        """The canonical records for what an adapter offered together."""
        records = []
        for batch in batches:
            shape = self._shapes.get(id(batch.points))
            if shape is None or shape.type is not batch.type:
                break
            records.append(BatchRecord(shape.stream, shape.fit(batch), origin))
        else:
            return records
        records = self._records(batches, origin)
        for batch in batches:
            self._remember(batch)
        return records

    def _records(self, batches: Sequence[Batch], origin: Origin | None) -> list[BatchRecord]:
        scaled = [part for batch in batches for part in self._scaled(batch)]
        if self._untyped:
            self._fill_types(scaled)
        return [
            BatchRecord(stream, part, origin)
            for one in scaled
            for typed in self._typed(one)
            for stream, part in self._streamed(typed)
        ]

    def _remember(self, batch: Batch) -> None:
        """What is plain of this batch is of all that have the same points column: an adapter that shares it between
        its batches has made it read-only.
        """
        points = batch.points
        if points.flags.writeable or points.base is not None:
            return
        streams = self._stream[points]
        if (
            (streams != streams[0]).any()
            or (self._type[points] != batch.type).any()
            or (batch.type in _SCALABLE and self._scaled_points[points].any())
        ):
            return
        target = self._target[points]
        target.setflags(write=False)
        same = bool((target == points).all())
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[id(points)] = _Shape(points, batch.type, self._streams[int(streams[0])], None if same else target)

    def _learn(self) -> None:
        """Build the look-up columns, all addressed by permanent index, from the device's entries."""
        self._shapes: dict[int, _Shape] = {}
        """by the identity of a points column, which lives as long as its shape"""
        entries = self._table.points(self._device)
        live = {record.point: record for record in entries.values() if record.retired_at is None}
        size = max(entries, default=-1) + 1
        self._target = np.full(size, -1, np.int32)
        self._type = np.full(size, _UNKNOWN, np.uint8)
        self._stream = np.zeros(size, np.uint16)
        self._linear = np.tile(np.array(IDENTITY, np.float64), (size, 1))
        for index, record in entries.items():
            current = live.get(record.point, record)
            self._target[index] = current.index
            self._fill(index, current)
        self._scaled_points = (self._linear != IDENTITY).any(axis=1)
        self._scales = bool(self._scaled_points.any())
        self._untyped = bool((self._type == _UNKNOWN).any())

    def _fill(self, index: int, current: PointRecord) -> None:
        if current.type is not None:
            self._type[index] = current.type
        if current.stream not in self._streams:
            self._streams.append(current.stream)
        self._stream[index] = self._streams.index(current.stream)
        self._linear[index] = linear(current.scale, current.offset)

    def _scaled(self, batch: Batch) -> Iterator[Batch]:
        if not self._scales or batch.type not in _SCALABLE:
            yield batch
            return
        rows = self._scaled_points[batch.points]
        if not rows.any():
            yield batch
        elif rows.all():
            yield self._apply(batch)
        else:
            yield batch.take(~rows)
            yield self._apply(batch.take(rows))

    def _apply(self, batch: Batch) -> Batch:
        factor, addend, divisor = self._linear[batch.points].T
        with np.errstate(all="ignore"):
            values = (batch.values.astype(np.float64) * factor + addend) / divisor
            if batch.type is ValueType.FLOAT32:
                return replace(batch, values=values.astype(np.float32))
        return replace(batch, type=ValueType.FLOAT64, values=values)

    def _typed(self, batch: Batch) -> Iterator[Batch]:
        types = self._type[batch.points]
        code = int(batch.type)  # numpy takes 5 us to see that a member of an enumeration is a number
        if not (types == code).all():
            if ((types != code) & (types != _JSON) & batch.valid).any():
                self._retype(batch, types)
                types = self._type[batch.points]
            strays = (types != code) & (types != _UNKNOWN)
            if strays.any():
                for other in np.unique(types[strays]).tolist():
                    part = batch.take(types == other)
                    if other == _JSON and part.valid.any():
                        yield self._as_json(part)
                    else:
                        yield self._nulls(part, ValueType(other))
                if strays.all():
                    return
                batch = batch.take(~strays)
        yield replace(batch, points=self._target[batch.points])

    def _fill_types(self, batches: Sequence[Batch]) -> None:
        """First values show the types of points; all of one offer make one new catalogue version."""
        found: dict[int, ValueType] = {}
        for batch in batches:
            first = batch.valid & (self._type[batch.points] == _UNKNOWN)
            if first.any():
                for index in np.unique(self._target[batch.points[first]]).tolist():
                    found.setdefault(index, batch.type)
        if found:
            self._registry.type_points(self._device, list(found.items()))
            known = np.full(len(self._type), _UNKNOWN, np.uint8)
            known[list(found)] = list(found.values())
            untyped = self._type == _UNKNOWN
            self._type[untyped] = known[self._target[untyped]]
            self._untyped = bool((self._type == _UNKNOWN).any())

    def _retype(self, batch: Batch, types: npt.NDArray[np.uint8]) -> None:
        """The source sends another type than it did: new entries, and the old indexes lead to them."""
        wrong = (types != batch.type) & (types != ValueType.JSON) & batch.valid
        changed = np.unique(self._target[batch.points[wrong]])
        for index in changed.tolist():
            self._registry.retype(self._device, index, batch.type)
        self._learn()

    def _as_json(self, batch: Batch) -> Batch:
        """Values for points that take any type; bytes as base64, as on the wire."""
        values = np.empty(len(batch), object)
        for row in np.flatnonzero(batch.valid).tolist():
            value = batch.values[row]
            plain = b64encode(value).decode() if isinstance(value, bytes) else value
            values[row] = plain.item() if isinstance(plain, np.generic) else plain
        return replace(batch, type=ValueType.JSON, values=values, points=self._target[batch.points])

    def _nulls(self, batch: Batch, type: ValueType) -> Batch:
        values = np.zeros(len(batch), type.dtype)
        if type in _EMPTY:
            values[:] = _EMPTY[type]
        return replace(batch, type=type, values=values, points=self._target[batch.points])

    def _streamed(self, batch: Batch) -> Iterator[tuple[str, Batch]]:
        codes = self._stream[batch.points]
        first = int(codes[0])
        if len(self._streams) == 1 or (codes == first).all():
            yield self._streams[first], batch
            return
        for code in np.unique(codes):
            yield self._streams[int(code)], batch.take(codes == code)
