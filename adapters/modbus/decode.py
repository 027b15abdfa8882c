"""From the replies of a group of blocks to columns, by layouts that are compiled once. Pure; no Python per register.

All replies of one cycle are joined and looked at as one array of words. Points of one kind are decoded together
(`gather`), text and the like one by one (`values`). Bits travel least significant first (MODBUS Application Protocol
V1.1b3, 6.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.modbus import gather
from adapters.modbus.gather import Cells, Columns, Gather
from adapters.modbus.planner import Block
from adapters.modbus.point import ModbusPointConfig
from adapters.modbus.totals import Totals
from adapters.modbus.values import Read, scalar_reader
from gateway.contract import Basis, Batch, Point, ValueType
from gateway.contract.status import BAD_SENSOR_FAILURE, GOOD


class Replies(NamedTuple):
    """What one cycle of a layout's blocks brought; one element per block, in the layout's order."""

    payloads: Sequence[bytes | None]
    """the reply's data; None where there is none"""
    status: Sequence[int]
    """OPC UA status; anything but Good makes the block's points Bad without a value"""
    read: Sequence[bool]
    """False: the block was not tried, its points get no reading"""
    time_ns: Sequence[int]
    """middle between request and reply, ns since the epoch"""


class _Group(NamedTuple):
    """A stretch of a column that one call fills."""

    part: slice
    gather: Gather


class _Scalar(NamedTuple):
    """An element of a column that needs a call of its own: text, decimal digits, arrays."""

    place: int
    start: int
    """first byte (in a table of bits: bit) in the joined replies"""
    end: int
    in_bits: bool
    read: Read


class _Column(NamedTuple):
    """Everything fixed about the batch of one value type."""

    type: ValueType
    dtype: np.dtype[Any]
    points: npt.NDArray[np.int32]
    block: npt.NDArray[np.intp]
    """number of each point's block"""
    groups: tuple[_Group, ...]
    scalars: tuple[_Scalar, ...]
    of_one_kind: bool
    """one group fills the whole column"""
    judged: bool
    """some points may turn out to be Bad: text that is none, numbers that stand for no value"""
    epoch: npt.NDArray[np.int64]
    """int64[n] of 0: a time of all is added to it"""
    valid: npt.NDArray[np.bool_]
    status: npt.NDArray[np.uint32]
    basis: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]


class _Place(NamedTuple):
    """A point within the joined replies."""

    point: Point
    config: ModbusPointConfig
    block: int
    start: int
    """first word, or first bit, in the joined replies"""


class Layout:
    """The decoder of some blocks that are offered together. Make a new one when the blocks change.

    `points[span.key]` is the point of a span; its config is a `ModbusPointConfig`.
    """

    def __init__(
        self, device: str, points: Sequence[Point], blocks: Sequence[Block], totals: Totals | None = None
    ) -> None:
        """`totals` outlives layouts; without it no totaliser is watched."""
        self._device = device
        self._totals = totals if totals is not None and totals.any else None
        self._in_bits = [block.table.is_bits for block in blocks]
        self._sizes = [(block.cells + 7) // 8 if block.table.is_bits else 2 * block.cells for block in blocks]
        by_type: dict[ValueType, list[_Place]] = {}
        for place in _places(points, blocks):
            by_type.setdefault(place.config.value_type, []).append(place)
        self._columns = [_column(type, by_type[type]) for type in sorted(by_type)]
        self._has_bits = any(self._in_bits)

    def decode(self, replies: Replies, received_ns: int, monotonic_ns: int) -> list[Batch]:
        """Batches of all points whose block was tried, one per value type.

        `received_ns` (since the epoch) and `monotonic_ns` say when the last reply came. Every payload must have its
        block's size, which the client checks.
        """
        cells = self._join(replies.payloads)
        times = replies.time_ns
        if all(replies.read) and not any(replies.status):
            batches = [self._batch(column, cells, times, received_ns, monotonic_ns) for column in self._columns]
        else:
            status = np.array(replies.status, dtype=np.uint32)
            read = np.array(replies.read, dtype=np.bool_)
            batches = []
            for column in self._columns:
                tried = read[column.block]
                if tried.any():
                    batch = self._batch(column, cells, times, received_ns, monotonic_ns)
                    batches.append(_cut(batch, tried, status[column.block]))
        return batches if self._totals is None else [_marked(batch, self._totals) for batch in batches]

    def _join(self, payloads: Sequence[bytes | None]) -> Cells:
        sent = [payload or bytes(size) for payload, size in zip(payloads, self._sizes, strict=True)]
        if not self._has_bits:
            return Cells(b"".join(sent), b"")
        registers = [payload for payload, in_bits in zip(sent, self._in_bits, strict=True) if not in_bits]
        bits = [payload for payload, in_bits in zip(sent, self._in_bits, strict=True) if in_bits]
        return Cells(b"".join(registers), b"".join(bits))

    def _batch(self, column: _Column, cells: Cells, times: Sequence[int], received_ns: int, monotonic_ns: int) -> Batch:
        valid, status = column.valid, column.status
        if column.judged:
            valid, status = valid.copy(), status.copy()
        values = None if column.of_one_kind else np.empty(len(column.points), column.dtype)
        for part, (numbers, invalid, convert) in column.groups:
            found = numbers(cells)
            if invalid is not None and (none := invalid(found)).any():
                valid[part][none] = False
                status[part][none] = BAD_SENSOR_FAILURE
            if convert is not None:
                found = convert(found)
            if values is None:
                values = found.astype(column.dtype, copy=False)
            else:
                values[part] = found
        assert values is not None
        for scalar in column.scalars:
            source = cells.bits if scalar.in_bits else cells.raw
            values[scalar.place], bad = scalar.read(source[scalar.start : scalar.end])
            if bad:
                valid[scalar.place], status[scalar.place] = False, bad
        return Batch(
            device=self._device,
            type=column.type,
            points=column.points,
            values=values,
            valid=valid,
            status=status,
            source_time=column.epoch + times[0] if len(times) == 1 else np.array(times, np.int64)[column.block],
            basis=column.basis,
            flags=column.flags,
            received_time=received_ns,
            monotonic=monotonic_ns,
        )


def _cut(batch: Batch, read: npt.NDArray[np.bool_], bad: npt.NDArray[np.uint32]) -> Batch:
    """`batch` without the points that were not tried, and with the status of blocks that failed."""
    failed = bad != GOOD
    return Batch(
        device=batch.device,
        type=batch.type,
        points=batch.points[read],
        values=batch.values[read],
        valid=(batch.valid & ~failed)[read],
        status=np.where(failed, bad, batch.status)[read],
        source_time=batch.source_time[read],
        basis=batch.basis[read],
        flags=batch.flags[read],
        received_time=batch.received_time,
        monotonic=batch.monotonic,
    )


def _marked(batch: Batch, totals: Totals) -> Batch:
    if batch.values.dtype.kind not in "iuf":
        return batch
    found = totals.flags(batch.points, batch.values, batch.valid & (batch.status == GOOD))
    return batch if found is None else replace(batch, flags=batch.flags | found)


def _places(points: Sequence[Point], blocks: Sequence[Block]) -> list[_Place]:
    """Where each point begins when the blocks' replies are joined, registers and bits apart."""
    places = []
    words = bits = 0
    for number, block in enumerate(blocks):
        base = bits if block.table.is_bits else words
        for span in block.spans:
            point = points[span.key]
            config = point.config
            assert isinstance(config, ModbusPointConfig)
            places.append(_Place(point, config, number, base + span.start - block.start))
        if block.table.is_bits:
            bits += 8 * ((block.cells + 7) // 8)
        else:
            words += block.cells
    return places


def _column(type: ValueType, places: Sequence[_Place]) -> _Column:
    """Arrange the places so that each kind of value is one stretch; in a stretch the order is that of the plan."""
    kinds: dict[tuple[Any, ...], list[_Place]] = {}
    alone: list[_Place] = []
    for place in places:
        if (kind := gather.kind(place.config)) is None:
            alone.append(place)
        else:
            kinds.setdefault(kind, []).append(place)
    ordered: list[_Place] = []
    groups = []
    for members in kinds.values():
        part = slice(len(ordered), len(ordered) + len(members))
        groups.append(_Group(part, gather.gather([gather.Place(at.config, at.start) for at in members])))
        ordered.extend(members)
    scalars = [_scalar(len(ordered) + i, place) for i, place in enumerate(alone)]
    ordered.extend(alone)
    n = len(ordered)
    return _Column(
        type,
        type.dtype,
        _fixed([place.point.index for place in ordered], np.int32),
        np.array([place.block for place in ordered], np.intp),
        tuple(groups),
        tuple(scalars),
        len(groups) == 1 and not scalars,
        bool(scalars) or any(place.config.invalid for place in ordered),
        _fixed([0] * n, np.int64),
        _fixed([True] * n, np.bool_),
        _fixed([GOOD] * n, np.uint32),
        _fixed([Basis.GATEWAY] * n, np.uint8),
        _fixed([0] * n, np.uint8),
    )


def _fixed(content: Sequence[Any], dtype: Any) -> Columns:
    """A column that all cycles' batches share; nobody may write to it."""
    column = np.array(content, dtype)
    column.setflags(write=False)
    return column


def _scalar(place: int, at: _Place) -> _Scalar:
    in_bits = at.config.address.table.is_bits
    size = at.config.cells if in_bits else 2 * at.config.cells
    start = at.start if in_bits else 2 * at.start
    return _Scalar(place, start, start + size, in_bits, scalar_reader(at.config))
