"""From decoded items to the gateway's batches: types, times, flags, and what a server's queue lost. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.decode import Items
from adapters.opcua.decoding.variant import format_guid, format_ticks
from gateway.contract import NO_TIME, Basis, Batch, Flag, Gap, ValueType
from gateway.contract.status import (
    BAD_NODE_ID_INVALID,
    BAD_NODE_ID_UNKNOWN,
    BAD_TYPE_MISMATCH,
    CODE_MASK,
    OVERFLOW_BITS,
)

UNIX_EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970 in 100 ns ticks since 1601"""
_CREDIBLE_FROM: Final = UNIX_EPOCH_TICKS + 946_684_800 * 10**7
"""2000: nothing in a plant was measured before; a clock that says so was never set"""
_ORDER_BITS: Final = 40
"""more than the place of any item in its notification has"""
_DAY: Final = 86_400 * 10**7
_LAST: Final = UNIX_EPOCH_TICKS + 253_402_300_799 * 10**7
"""9999-12-31T23:59:59Z; what a server sends as the greatest number means this or later (Part 6, 5.2.2.5)"""

_VALUE_TYPES: Final[dict[int, ValueType]] = {
    layouts.BOOLEAN: ValueType.BOOL,
    **dict.fromkeys((layouts.SBYTE, layouts.INT16, layouts.INT32, layouts.INT64), ValueType.INT64),
    **dict.fromkeys(
        (layouts.BYTE, layouts.UINT16, layouts.UINT32, layouts.UINT64, layouts.STATUSCODE), ValueType.UINT64
    ),
    layouts.FLOAT: ValueType.FLOAT32,
    layouts.DOUBLE: ValueType.FLOAT64,
    **dict.fromkeys(
        (
            layouts.STRING,
            layouts.DATETIME,
            layouts.GUID,
            layouts.XMLELEMENT,
            layouts.NODEID,
            layouts.EXPANDED_NODEID,
            layouts.QUALIFIED_NAME,
            layouts.LOCALIZED_TEXT,
        ),
        ValueType.STRING,
    ),
    layouts.BYTESTRING: ValueType.BYTES,
}

BUILT_IN: Final[dict[str, int]] = {
    "bool": layouts.BOOLEAN,
    "int8": layouts.SBYTE,
    "uint8": layouts.BYTE,
    "int16": layouts.INT16,
    "uint16": layouts.UINT16,
    "int32": layouts.INT32,
    "uint32": layouts.UINT32,
    "int64": layouts.INT64,
    "uint64": layouts.UINT64,
    "float32": layouts.FLOAT,
    "float64": layouts.DOUBLE,
    "string": layouts.STRING,
    "bytes": layouts.BYTESTRING,
}
"""the config's type names as built-in type ids"""


class Moment(NamedTuple):
    """When the bytes arrived: ns since the epoch, and ns of the boot's monotonic clock."""

    time: int
    monotonic: int


@dataclass(frozen=True, slots=True)
class Built:
    """What one notification became."""

    batches: list[Batch]
    gaps: list[Gap]
    strangers: int
    """items whose client handle is not a point of ours; they are left out"""
    vanished: npt.NDArray[np.int64]
    """points that read "no such node": their monitored items must be made anew"""


class _Times(NamedTuple):
    times: npt.NDArray[np.int64]
    basis: npt.NDArray[np.uint8]
    original: npt.NDArray[np.int64] | None


class _Part(NamedTuple):
    type: ValueType
    items: Items
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


class BatchBuilder:
    """Builds one device's batches; remembers per point the last type and time, and whether it has been heard yet."""

    def __init__(
        self,
        device: str,
        types: dict[int, int],
        clock: ClockRule,
        since: int,
        watch: Callable[[Batch], None] | None = None,
    ) -> None:
        """`types`: each point's index with its configured built-in type (NULL = the server's own); `since`: ns, now.

        `watch` is shown every batch.
        """
        size = max(types) + 1
        self._device = device
        self._clock = clock
        self._shift = round(clock.shift * 10**7) if isinstance(clock, ClockShift) else 0
        self._watch = watch
        self._known = np.zeros(size, np.bool_)
        self._expected = np.zeros(size, np.uint8)
        self._last_type = np.full(size, ValueType.FLOAT64, np.uint8)
        self._last_time = np.full(size, since, np.int64)
        self._fresh = np.zeros(size, np.bool_)
        for index, type in types.items():
            self._known[index] = True
            self._expected[index] = type
            if type != layouts.NULL:
                self._last_type[index] = _VALUE_TYPES[type]
        self._any_expected = bool(self._expected.any())

    def created(self, points: Iterable[int]) -> None:
        """Monitored items of these points are new: what they send first is an initial value."""
        self._fresh[list(points)] = True

    def bad(self, points: Sequence[int], statuses: Sequence[int], moment: Moment) -> list[Batch]:
        """One reading without a value per point, with its status and the gateway's time."""
        n = len(points)
        self._fresh[list(points)] = False  # the reading is ours, not the server's initial one
        items = Items(
            layouts.NULL,
            False,
            np.arange(n),
            np.array(points, np.uint32),
            np.zeros(n),
            np.array(statuses, np.uint32),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
        )
        return self.build([items], moment).batches

    def build(self, decoded: Sequence[Items], moment: Moment) -> Built:
        """Turn one notification's items into batches, one per value type, in each the order of the notification."""
        parts: list[_Part] = []
        strangers = 0
        nulls: list[Items] = []
        for found in decoded:
            items = self._ours(found)
            strangers += len(found) - len(items)
            if items.type == layouts.NULL:
                nulls.append(items)
            elif len(items):
                self._typed(items, parts)
        for items in nulls:
            self._null(items, parts)
        built = Built([], [], strangers, np.empty(0, np.int64))
        vanished = []
        for part in _joined(parts):
            batch, dead = self._batch(part, moment, built.gaps)
            built.batches.append(batch)
            if len(dead):
                vanished.append(dead)
        if vanished:
            return Built(built.batches, built.gaps, strangers, np.unique(np.concatenate(vanished)))
        return built

    def _ours(self, items: Items) -> Items:
        handles = items.handles
        if int(handles.max()) < len(self._known) and self._known[handles].all():
            return items
        return items.take((handles < len(self._known)) & self._known[np.minimum(handles, len(self._known) - 1)])

    def _typed(self, items: Items, parts: list[_Part]) -> None:
        if self._any_expected:
            expected = self._expected[items.handles]
            other = (expected != layouts.NULL) & ((expected != items.type) | items.array)
            if other.any():
                for wanted in np.unique(expected[other]).tolist():
                    self._cast(items.take(other & (expected == wanted)), wanted, parts)
                items = items.take(~other)
                if not len(items):
                    return
        type = ValueType.JSON if items.array else _VALUE_TYPES.get(items.type, ValueType.JSON)
        self._last_type[items.handles] = int(type)
        parts.append(_Part(type, items, _values(items, type), np.ones(len(items), np.bool_)))

    def _cast(self, items: Items, wanted: int, parts: list[_Part]) -> None:
        """The server sends another type than the config says: cast what loses nothing, mark the rest."""
        type = _VALUE_TYPES[wanted]
        values, fits = _lossless(items, wanted, type)
        status = np.where(fits, items.status, np.uint32(BAD_TYPE_MISMATCH)).astype(np.uint32)
        marked = Items(
            items.type, items.array, items.order, items.handles, items.values, status, items.source, items.server
        )
        parts.append(_Part(type, marked, values, fits))

    def _null(self, items: Items, parts: list[_Part]) -> None:
        last = self._last_type[items.handles]
        for code in np.unique(last).tolist():
            type = ValueType(code)
            rows = items.take(last == code)
            parts.append(_Part(type, rows, np.zeros(len(rows), type.dtype), np.zeros(len(rows), np.bool_)))

    def _batch(self, part: _Part, moment: Moment, gaps: list[Gap]) -> tuple[Batch, npt.NDArray[np.int64]]:
        items = part.items
        times, basis, original = self._times(items, moment)
        flags = np.zeros(len(items), np.uint8)
        overflow = (items.status & np.uint32(OVERFLOW_BITS)) == OVERFLOW_BITS
        if overflow.any():
            flags[overflow] |= np.uint8(Flag.OVERFLOW)
            gaps += self._lost(items, times, overflow)
        fresh = self._fresh[items.handles]
        if fresh.any():
            rows = np.flatnonzero(fresh)
            first = rows[np.unique(items.handles[rows], return_index=True)[1]]
            flags[first] |= np.uint8(Flag.INITIAL)
            self._fresh[items.handles[first]] = False
        self._last_time[items.handles] = times
        batch = Batch(
            self._device,
            part.type,
            items.handles.astype(np.int32),
            part.values,
            part.valid,
            items.status,
            times,
            basis,
            flags,
            moment.time,
            moment.monotonic,
            original,
        )
        if self._watch is not None:
            self._watch(batch)
        return batch, _vanished(items)

    def _times(self, items: Items, moment: Moment) -> _Times:
        """ns since 1970 and its basis: the source's time, else the server's, else ours (Part 4, 7.11.3).

        The original is the first of them that was given and is not credible. It is what came, before the shift; a
        credible time that was only shifted has none, since the shift can be undone.
        """
        if self._clock == "gateway":
            return _Times(*self._of_gateway(items, moment), None)
        latest = moment.time // 100 + UNIX_EPOCH_TICKS + _DAY
        stamps, first = (items.server, Basis.SERVER) if self._clock == "server" else (items.source, Basis.SOURCE)
        ticks, credible = self._shifted(stamps, latest)
        if credible.all():  # nearly always
            return _Times((ticks - UNIX_EPOCH_TICKS) * 100, np.full(len(items), first, np.uint8), None)
        times, basis = self._of_gateway(items, moment)
        original = np.full(len(items), NO_TIME)
        # From the last resort to the first choice: what comes later takes the place of what was there.
        for clock, stamps in ((Basis.SERVER, items.server), (Basis.SOURCE, items.source)):
            if clock < first:
                continue
            ticks, credible = self._shifted(stamps, latest)
            np.copyto(times, (ticks - UNIX_EPOCH_TICKS) * 100, where=credible)
            basis[credible] = clock
            original[credible] = NO_TIME
            np.copyto(original, np.minimum(stamps, _LAST) - UNIX_EPOCH_TICKS, where=(stamps > 0) & ~credible)
        return _Times(times, basis, original if (original != NO_TIME).any() else None)

    def _shifted(
        self, stamps: npt.NDArray[np.int64], latest: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The ticks after the configured shift, and which of them are credible."""
        ticks = stamps - self._shift if self._shift else stamps
        return ticks, (ticks >= _CREDIBLE_FROM) & (ticks <= latest)

    def _of_gateway(self, items: Items, moment: Moment) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        return np.full(len(items), moment.time, np.int64), np.full(len(items), Basis.GATEWAY, np.uint8)

    def _lost(self, items: Items, times: npt.NDArray[np.int64], overflow: npt.NDArray[np.bool_]) -> list[Gap]:
        """A gap per overflow mark: from the point's reading before it to the marked one (Part 4, 5.12.1.5)."""
        by_point = np.argsort(items.handles, kind="stable")
        before = self._last_time[items.handles]
        follows = items.handles[by_point][1:] == items.handles[by_point][:-1]
        before[by_point[1:][follows]] = times[by_point[:-1][follows]]
        rows = np.flatnonzero(overflow)
        starts = np.minimum(before[rows], times[rows])
        return [
            Gap((point,), start, end, "overflow")
            for point, start, end in zip(
                items.handles[rows].tolist(), starts.tolist(), times[rows].tolist(), strict=True
            )
        ]


def _vanished(items: Items) -> npt.NDArray[np.int64]:
    code = items.status & np.uint32(CODE_MASK)
    gone = (code == BAD_NODE_ID_INVALID) | (code == BAD_NODE_ID_UNKNOWN)
    points: npt.NDArray[np.int64] = items.handles[gone].astype(np.int64)
    return points


def _joined(parts: list[_Part]) -> Iterator[_Part]:
    """One part per value type, each in the order of the notification: their columns are joined and sorted at once."""
    if len(parts) <= 1:
        yield from parts
        return
    parts.sort(key=_type)
    lengths = [len(part.items) for part in parts]
    order = np.concatenate([part.items.order for part in parts])
    types = np.repeat(np.array([*map(_type, parts)]), lengths)
    rows = np.argsort(types << _ORDER_BITS | order, kind="stable")  # which takes what is sorted already as it is
    handles = np.concatenate([part.items.handles for part in parts])[rows]
    status = np.concatenate([part.items.status for part in parts])[rows]
    source = np.concatenate([part.items.source for part in parts])[rows]
    server = np.concatenate([part.items.server for part in parts])[rows]
    valid = np.concatenate([part.valid for part in parts])[rows]
    order = order[rows]
    start = 0
    for type, group in itertools.groupby(parts, _type):
        columns = [part.values for part in group]
        end = start + sum(map(len, columns))
        one = slice(start, end)
        values = columns[0]
        if len(columns) > 1:
            values = np.concatenate(columns)[rows[one] - start].astype(type.dtype, copy=False)
        items = Items(layouts.NULL, False, order[one], handles[one], values, status[one], source[one], server[one])
        yield _Part(type, items, values, valid[one])
        start = end


def _type(part: _Part) -> ValueType:
    return part.type


def _values(items: Items, type: ValueType) -> npt.NDArray[Any]:
    if items.array or type.dtype != object:
        column: npt.NDArray[Any] = items.values.astype(type.dtype, copy=False)
        return column
    if items.type == layouts.DATETIME:
        return _objects([format_ticks(ticks) for ticks in items.values.tolist()])
    if items.type == layouts.GUID:
        return _objects([format_guid(raw.tobytes()) for raw in items.values])
    return items.values


def _objects(values: list[Any]) -> npt.NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


_RANGES: Final[dict[int, tuple[int, int]]] = {
    **{type: (-(1 << bits - 1), (1 << bits - 1) - 1) for type, bits in zip((2, 4, 6, 8), (8, 16, 32, 64), strict=True)},
    **{type: (0, (1 << bits) - 1) for type, bits in zip((3, 5, 7, 9), (8, 16, 32, 64), strict=True)},
    layouts.BOOLEAN: (0, 1),
}
_NUMBERS: Final = frozenset(range(layouts.BOOLEAN, layouts.DOUBLE + 1))


def _lossless(items: Items, wanted: int, type: ValueType) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values as `type`, and which of them are exactly what was sent. Both columns have the items' length."""
    n = len(items)
    values = np.zeros(n, type.dtype)
    fits = np.zeros(n, np.bool_)
    if items.array or items.type not in _NUMBERS or wanted not in _NUMBERS:
        return values, fits
    sent = items.values
    if wanted in _RANGES:
        low, high = _RANGES[wanted]
        if sent.dtype.kind == "f":
            # high + 1 is a power of two and exact as a float; high itself may round up to it.
            fits = (sent >= float(low)) & (sent < float(high + 1)) & (sent == np.floor(sent))
        else:
            fits = (sent >= low) & (sent <= high)  # exact, also where a bound is beyond what the column could hold
        values[fits] = sent[fits].astype(type.dtype)
        return values, fits
    with np.errstate(over="ignore", invalid="ignore"):
        cast = sent.astype(type.dtype)
        if sent.dtype.kind == "f":
            fits = (cast == sent) | np.isnan(sent)
        else:
            # A float past the largest integer has no way back; it is what a smaller one was rounded up to.
            fits = (cast < float(_RANGES[items.type][1] + 1)) & (cast.astype(sent.dtype) == sent)
    values[fits] = cast[fits]
    return values, fits
