"""Items of a DataChangeNotification (Part 4, 7.25.2) from raw bytes into columns. Pure.

Equal items are one numpy view. Mixed ones are walked once in Python, which only finds where each starts and what
layout it has; values are then gathered per layout by numpy. Values of variable size cost Python work each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from adapters.opcua.envelope import skip_diagnostics
from adapters.opcua.layouts import BOOLEAN, NULL, SERVER, SIZES, SOURCE, STATUS, TAILS, VALUE, Layout, layout
from adapters.opcua.variant import DecodeError, OtherVariant, decode_variant, read_length
from gateway.contract.status import BAD_DECODING_ERROR

_SMALLEST_ITEM: Final = 5
_STREAK: Final = 16
"""equal items seen one by one before it pays to look for a run with numpy"""


@dataclass(frozen=True, slots=True)
class Items:
    """Items of one built-in type, in the order of the notification. All columns have the same length >= 1."""

    type: int
    """built-in type id (Part 6, 5.1.2); NULL = items without a value, whose `values` mean nothing"""
    array: bool
    """values are arrays: an object column of lists"""
    order: npt.NDArray[np.int64]
    """place in the notification"""
    handles: npt.NDArray[np.uint32]
    values: npt.NDArray[Any]
    """native dtype for a fixed width (DateTime: int64 ticks, Guid: 16 bytes), object otherwise"""
    status: npt.NDArray[np.uint32]
    source: npt.NDArray[np.int64]
    """source timestamp, 100 ns ticks since 1601; 0 = none"""
    server: npt.NDArray[np.int64]
    """server timestamp, likewise"""

    def __len__(self) -> int:
        return len(self.handles)

    def take(self, rows: npt.NDArray[Any]) -> Items:
        """The given rows (indexes or a mask)."""
        columns = (self.order, self.handles, self.values, self.status, self.source, self.server)
        return Items(self.type, self.array, *(column[rows] for column in columns))


def decode_items(data: bytes, start: int, end: int, other: OtherVariant) -> list[Items]:
    """Decode the DataChangeNotification body in `data[start:end]`, one `Items` per type. Raises DecodeError.

    The body must end exactly at `end`: anything else means that a length was wrong somewhere.
    """
    count = read_length(data, start, end)
    offset = start + 4
    if count > (end - offset) // _SMALLEST_ITEM:
        raise DecodeError(f"{count} items do not fit into {end - offset} bytes")
    if count <= 0:
        items: list[Items] = []
    else:
        items, offset = _decode(data, offset, end, count, other)
    if skip_diagnostics(data, offset, end) != end:
        raise DecodeError("the notification does not end where its length says")
    return items


def _decode(data: bytes, offset: int, end: int, count: int, other: OtherVariant) -> tuple[list[Items], int]:
    if offset + 6 <= end:
        key = data[offset + 4] | data[offset + 5] << 8
        if SIZES[key] and offset + SIZES[key] * count <= end and _run(data, offset, key, count) == count:
            uniform = layout(key if key & VALUE else key & 0xFF)
            records = np.frombuffer(data, uniform.dtype, count, offset)
            return [_columns(uniform, np.arange(count), records)], offset + uniform.dtype.itemsize * count
    walk = _Walk(other)
    offset = walk.run(data, offset, end, count)
    return _by_type([*walk.fixed(data), *walk.variable.items()]), offset


def _run(data: bytes, offset: int, key: int, limit: int) -> int:
    """How many of the next `limit` items have the layout of `key`; they must all lie within `data`.

    Exact: the first item of another layout starts where the run ends, so its mask and type are read at the right place.
    """
    size, done = SIZES[key], 0
    step = 64
    while done < limit:
        n = min(step, limit - done)
        if key & VALUE:
            pairs = np.ndarray((n,), "<u2", data, offset + done * size + 4, (size,))
            same = pairs == key
        else:
            masks = np.ndarray((n,), "u1", data, offset + done * size + 4, (size,))
            same = masks == key & 0xFF
        if not same.all():
            return done + int(same.argmin())
        done += n
        step *= 16
    return done


class _Walk:
    """One pass over items of mixed layouts."""

    def __init__(self, other: OtherVariant) -> None:
        self._other = other
        self._offsets: list[int] = []
        self._keys: list[int] = []
        self.variable = _Variable()

    def run(self, data: bytes, offset: int, end: int, count: int) -> int:
        """Find every item; returns where the last one ends. Raises DecodeError."""
        try:
            offset = self._find(data, offset, end, count)
        except IndexError:
            raise DecodeError("the message ends inside an item") from None
        # One check for all of them: an item of fixed size that crosses `end` moves the last end beyond it.
        if offset > end:
            raise DecodeError("the message ends inside an item")
        return offset

    def _find(self, data: bytes, offset: int, end: int, count: int) -> int:
        sizes, add_offset, add_key = SIZES, self._offsets.append, self._keys.append
        last, streak, done = -1, 0, 0
        while done < count:
            key = data[offset + 4] | data[offset + 5] << 8
            size = sizes[key]
            add_offset(offset)
            if not size:
                add_key(-1)
                offset = self.variable.read(data, offset, end, done, self._other)
                done += 1
                continue
            add_key(key)
            offset += size
            done += 1
            if key != last:
                last, streak = key, 0
                continue
            streak += 1
            if streak == _STREAK:
                streak = 0
                n = _run(data, offset, key, min(count - done, max(end - offset, 0) // size))
                self._offsets.extend(range(offset, offset + n * size, size))
                self._keys.extend([key] * n)
                offset += n * size
                done += n
        return offset

    def fixed(self, data: bytes) -> list[Items]:
        """The items of fixed size, gathered per layout."""
        offsets = np.array(self._offsets, np.int64)
        keys = np.array(self._keys, np.int32)
        keys[(keys & VALUE) == 0] &= 0xFF  # without a value the second byte belongs to something else
        found = []
        for key in np.unique(keys).tolist():
            if key >= 0:
                order = np.flatnonzero(keys == key)
                shape = layout(key)
                size = shape.dtype.itemsize
                # As opaque bytes first: numpy gathers those ten times faster than records.
                windows = np.ndarray((len(data) - size + 1,), f"V{size}", data, 0, (1,))
                found.append(_columns(shape, order, windows[offsets[order]].view(shape.dtype)))
        return found


def _columns(shape: Layout, order: npt.NDArray[np.int64], records: npt.NDArray[Any]) -> Items:
    n = len(records)

    def column(bit: int, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.ascontiguousarray(records[name]) if shape.mask & bit else np.zeros(n, dtype)

    if shape.type == NULL:
        values: npt.NDArray[Any] = np.zeros(n)
    elif shape.type == BOOLEAN:
        values = records["value"] != 0  # any other byte than 0 is true (Part 6, 5.2.2.1)
    else:
        values = np.ascontiguousarray(records["value"])
    return Items(
        shape.type,
        False,
        order,
        np.ascontiguousarray(records["handle"]),
        values,
        column(STATUS, "status", np.uint32),
        column(SOURCE, "source", np.int64),
        column(SERVER, "server", np.int64),
    )


class _Variable:
    """Items of variable size, gathered by type."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, bool], list[tuple[int, int, Any, int, int, int]]] = {}

    def read(self, data: bytes, offset: int, end: int, order: int, other: OtherVariant) -> int:
        """Decode the item at `offset`; returns where it ends."""
        mask = data[offset + 4]
        if mask >= len(TAILS) or not mask & VALUE:
            raise DecodeError(f"{mask:#x} is not the mask of a DataValue")
        type, array, value, at, sound = decode_variant(data, offset + 5, end, other)
        tail, status_at, source_at, server_at = TAILS[mask]
        after = at + tail.size
        if after > end:
            raise DecodeError("the message ends inside a DataValue")
        fields = (*tail.unpack_from(data, at), 0)
        status = fields[status_at] if sound else BAD_DECODING_ERROR
        handle = int.from_bytes(data[offset : offset + 4], "little")
        row = (order, handle, value, status, fields[source_at], fields[server_at])
        rows = self._rows.get((type, array))
        if rows is None:
            rows = self._rows[type, array] = []
        rows.append(row)
        return after

    def items(self) -> list[Items]:
        """What was read, one `Items` per type."""
        found = []
        for (type, array), rows in self._rows.items():
            orders, handles, values, statuses, sources, servers = zip(*rows, strict=True)
            column = np.zeros(len(rows)) if type == NULL else np.empty(len(rows), object)
            if type != NULL:
                column[:] = values if not array else [None] * len(rows)
                if array:
                    for row, value in enumerate(values):
                        column[row] = value
            found.append(
                Items(
                    type,
                    array,
                    np.array(orders, np.int64),
                    np.array(handles, np.uint32),
                    column,
                    np.array(statuses, np.uint32),
                    np.array(sources, np.int64),
                    np.array(servers, np.int64),
                )
            )
        return found


def _by_type(found: Sequence[Items]) -> list[Items]:
    """One `Items` per type: a point's readings may have come in several layouts, and their order must survive."""
    groups: dict[tuple[int, bool], list[Items]] = {}
    for items in found:
        groups.setdefault((items.type, items.array), []).append(items)
    merged = []
    for (type, array), parts in groups.items():
        if len(parts) == 1:
            merged.append(parts[0])
            continue
        order = np.concatenate([part.order for part in parts])
        joined = Items(
            type,
            array,
            order,
            np.concatenate([part.handles for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.server for part in parts]),
        )
        merged.append(joined.take(np.argsort(order)))
    return merged
