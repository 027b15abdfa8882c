"""Items of a DataChangeNotification (Part 4, 7.25.2), values of a ReadResponse (5.11.2): raw bytes to columns. Pure.

Equal items are one numpy view. Mixed ones are walked once, which only finds where each begins; the columns of all of
them are then gathered by numpy, values type by type. Structures, arrays of texts and rarer types are read one by one.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from adapters.opcua.decoding.envelope import skip_diagnostics
from adapters.opcua.decoding.layouts import (
    ARRAY,
    BOOLEAN,
    BYTESTRING,
    EXTENSION_OBJECT,
    FIXED,
    FROM_END,
    HANDLE,
    NULL,
    SERVER,
    SIZES,
    SOURCE,
    STATUS,
    TAILS,
    VALUE,
    Layout,
    layout,
)
from adapters.opcua.decoding.variant import (
    DecodeError,
    OtherVariant,
    as_list,
    decode_text,
    decode_variant,
    read_length,
)
from adapters.opcua.decoding.walk import Places, find_items, run_length
from gateway.contract.status import BAD_DECODING_ERROR

_SMALLEST_ITEM: Final = HANDLE + 1
_VARIANT: Final = HANDLE + 1
"""where in an item its value is"""
_TYPE: Final = 0x3F
_TAIL: Final = (("status", "<u4"), ("source", "<i8"), ("server", "<i8"))


@dataclass(frozen=True, slots=True)
class Items:
    """Items of one built-in type, in the order of the message. All columns have the same length >= 1."""

    type: int
    """built-in type id (Part 6, 5.1.2); NULL = items without a value, whose `values` mean nothing"""
    array: bool
    """values are arrays: an object column of lists"""
    order: npt.NDArray[np.int64]
    """place in the message"""
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
    items: list[Items] = []
    if count > 0:
        items, offset = _decode(data, offset, end, count, other, 0)
    if skip_diagnostics(data, offset, end) != end:
        raise DecodeError("the notification does not end where its length says")
    return items


def decode_values(data: bytes, start: int, handles: npt.NDArray[np.uint32], other: OtherVariant) -> list[Items]:
    """Decode a ReadResponse whose results begin at `start`, one `Items` per type. Raises DecodeError.

    `handles`: uint32[n], what takes the place of client handles, in the order of the nodes in the request; the answer
    must have as many values.
    """
    end = len(data)
    count = read_length(data, start, end)
    offset = start + 4
    if max(count, 0) != len(handles):
        raise DecodeError(f"{count} values for {len(handles)} nodes")
    if count > end - offset:
        raise DecodeError(f"{count} values do not fit into {end - offset} bytes")
    items: list[Items] = []
    if count > 0:
        items, offset = _decode(data, start + 4 - HANDLE, end, count, other, HANDLE)
    if skip_diagnostics(data, offset, end) != end:
        raise DecodeError("the message does not end behind its values")
    return [replace(found, handles=handles[found.order]) for found in items]


def _decode(
    data: bytes, offset: int, end: int, count: int, other: OtherVariant, shared: int
) -> tuple[list[Items], int]:
    """`count` items from `offset` on, and where they end; `shared`: see `find_items`."""
    if offset + 6 <= end:
        key = data[offset + 4] | data[offset + 5] << 8
        step = SIZES[key] - shared
        last = offset + step * (count - 1) + SIZES[key]
        if SIZES[key] and last <= end and run_length(data, offset, key, count, shared) == count:
            uniform = layout(key if key & VALUE else key & 0xFF)
            records = np.ndarray((count,), uniform.dtype, data, offset, (step,))
            return [_columns(uniform, np.arange(count), records)], last
    variable = _Variable()

    def read(offset: int, order: int) -> int:
        return variable.read(data, offset, end, order, other) - shared

    places = find_items(data, offset, end, count, read, shared)
    return _by_type([*_gather(data, places, shared, other), *variable.items()]), places.end


def _gather(data: bytes, places: Places, shared: int, other: OtherVariant) -> list[Items]:
    """The items that were stepped over, type by type."""
    octets = np.frombuffer(data, np.uint8)
    order, offsets = np.arange(len(places.offsets)), places.offsets
    ends = np.append(offsets[1:], places.end - shared) + shared
    if len(places.read):
        order = np.delete(order, places.read)
        offsets, ends = offsets[order], ends[order]
    if not len(order):
        return []
    masks, variants = octets[offsets + HANDLE], octets[offsets + _VARIANT]
    variants[masks & np.uint8(VALUE) == 0] = NULL  # without a value that byte belongs to something else
    by_type = np.argsort(variants, kind="stable")
    order, offsets, ends = order[by_type], offsets[by_type], ends[by_type]
    masks, variants = masks[by_type], variants[by_type]
    handles = _at(data, offsets, "<u4")
    tails = [_tail(data, ends, masks, field, format) for field, format in _TAIL]
    starts = [0, *(np.flatnonzero(variants[1:] != variants[:-1]) + 1).tolist(), len(variants)]
    found: list[Items] = []
    for variant, (start, end) in zip(variants[starts[:-1]].tolist(), itertools.pairwise(starts), strict=True):
        rows = slice(start, end)
        values, there = _values(data, offsets[rows] + _VARIANT, variant, other)
        columns = (order[rows], handles[rows], values, *(tail[rows] for tail in tails))
        items = Items(variant & _TYPE, bool(variant & ARRAY), *columns)
        if there is None or there.all():
            found.append(items)
            continue
        nothing = items.take(~there)
        found.append(replace(nothing, type=NULL, array=False, values=np.zeros(len(nothing))))
        if there.any():
            found.append(items.take(there))
    return found


def _at(data: bytes, offsets: npt.NDArray[np.int64], format: str) -> npt.NDArray[Any]:
    """What lies at each of `offsets`, all of which lie within `data`."""
    dtype = np.dtype(format)
    size = dtype.itemsize
    # As opaque bytes first: numpy gathers those faster than what is not aligned.
    return np.ndarray((len(data) - size + 1,), f"V{size}", data, 0, (1,))[offsets].view(dtype)


def _tail(
    data: bytes, ends: npt.NDArray[np.int64], masks: npt.NDArray[np.uint8], field: str, format: str
) -> npt.NDArray[Any]:
    """A field behind the values of items that end at `ends`; 0 where an item does not have it."""
    back = FROM_END[field][masks]
    if back.all():
        return _at(data, ends - back, format)
    column = np.zeros(len(ends), format)
    rows = np.flatnonzero(back)
    if len(rows):
        column[rows] = _at(data, ends[rows] - back[rows], format)
    return column


def _values(
    data: bytes, variants: npt.NDArray[np.int64], variant: int, other: OtherVariant
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """The values of the variants of one type at `variants`, and which of them are not null; None = all."""
    if variant == NULL:
        return np.zeros(len(variants)), None
    starts = variants + 1
    if variant in FIXED:
        values = _at(data, starts, FIXED[variant])
        # Any other byte than 0 is true (Part 6, 5.2.2.1).
        return (values != 0 if variant == BOOLEAN else values), None
    column = np.empty(len(variants), object)
    if variant == EXTENSION_OBJECT:
        end = len(data)
        structures = [other(data, at, end) for at in variants.tolist()]
        column[:] = [found.value for found in structures]
        return column, np.array([found.type != NULL for found in structures])
    lengths = _at(data, starts, "<i4").astype(np.int64)
    there = lengths >= 0
    starts, lengths = starts + 4, np.maximum(lengths, 0)
    if variant & ARRAY:
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            column[rows] = _arrays(data, starts[rows], length, variant & _TYPE)
    elif variant == BYTESTRING:
        column[:] = [data[at : at + n] for at, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    else:
        column[:] = _texts(data, starts, lengths)
    return column, there


def _arrays(data: bytes, starts: npt.NDArray[np.int64], length: int, type: int) -> npt.NDArray[Any]:
    """object[n] of lists: the arrays of `length` elements of a type of fixed width that begin at `starts`."""
    format = FIXED[type]
    raw = _at(data, starts, f"V{length * np.dtype(format).itemsize}") if length else np.empty(0, format)
    elements = as_list(type, raw.view(format))
    arrays = (elements[row * length : (row + 1) * length] for row in range(len(starts)))
    return np.fromiter(arrays, object, len(starts))  # a list of lists would be read as a matrix


def _texts(data: bytes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[str]:
    """The UTF-8 texts at `starts`; pure ASCII, nearly all of them, costs a slice each."""
    slices = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
    found = [data[start:end] for start, end in slices]
    together = b"".join(found)
    if not together.isascii():
        return [decode_text(raw) for raw in found]
    text = together.decode("ascii")
    return [text[start:end] for start, end in itertools.pairwise([0, *np.cumsum(lengths).tolist()])]


def _columns(shape: Layout, order: npt.NDArray[np.int64], records: npt.NDArray[Any]) -> Items:
    if shape.type == NULL:
        values: npt.NDArray[Any] = np.zeros(len(records))
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
        _field(records, shape.mask & STATUS, "status", np.uint32),
        _field(records, shape.mask & SOURCE, "source", np.int64),
        _field(records, shape.mask & SERVER, "server", np.int64),
    )


def _field(records: npt.NDArray[Any], present: int, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.ascontiguousarray(records[name]) if present else np.zeros(len(records), dtype)


class _Variable:
    """Items of variable size, gathered by type."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, bool], list[tuple[int, int, Any, int, int, int]]] = {}

    def read(self, data: bytes, offset: int, end: int, order: int, other: OtherVariant) -> int:
        """Decode the item at `offset`; returns where it ends."""
        if offset + 5 > end:
            raise DecodeError("the message ends inside an item")
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
            rows.sort(key=operator.itemgetter(0))  # few texts of a layout come after all others
            orders, handles, values, statuses, sources, servers = zip(*rows, strict=True)
            # numpy would read a list of lists as a matrix
            column = np.zeros(len(rows)) if type == NULL else np.fromiter(values, object, len(rows))
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
