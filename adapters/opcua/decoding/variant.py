"""Values of variable size, one by one: strings, byte strings, and arrays (Part 6, 5.2.2)."""

from __future__ import annotations

import base64
import math
import struct
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.decoding.layouts import (
    ARRAY,
    BOOLEAN,
    BYTESTRING,
    DATETIME,
    DIMENSIONS,
    FIXED,
    FORMATS,
    GUID,
    LOCALIZED_TEXT,
    NULL,
    QUALIFIED_NAME,
    STRING,
    XMLELEMENT,
)

_I32: Final = struct.Struct("<i")
_EPOCH: Final = 11_644_473_600
"""seconds from 1601 to 1970"""


_MOST_DIMENSIONS: Final = 8
"""more would only nest lists deeper than JSON readers follow"""


class DecodeError(Exception):
    """The bytes are not what OPC UA binary encoding allows; nothing decoded from them can be trusted."""


class Value(NamedTuple):
    """A decoded variant. `type` is NULL where there is none; `sound` is False where it had a length but no meaning."""

    type: int
    array: bool
    value: Any
    end: int
    sound: bool = True


OtherVariant = Callable[[bytes, int, int], Value]
"""Decodes the variant at (data, offset, end) of a type that is not ours; its value is JSON-able. Raises DecodeError."""


def decode_variant(data: bytes, offset: int, end: int, other: OtherVariant) -> Value:
    """Decode the variant at `offset`; never reads beyond `end`. Raises DecodeError."""
    if offset >= end:
        raise DecodeError("the message ends before a value")
    encoding = data[offset]
    scalar = _SCALARS.get(encoding)
    if scalar is not None:
        value, after = scalar(data, offset + 1, end)
        return Value(NULL if value is None else encoding, False, value, after)
    type = encoding & 0x3F
    if type not in _SCALARS and type not in FIXED:
        if encoding == NULL:
            return Value(NULL, False, None, offset + 1)
        return other(data, offset, end)
    if encoding & ARRAY:
        return _array(data, offset + 1, end, type, bool(encoding & DIMENSIONS))
    if encoding & DIMENSIONS:
        raise DecodeError("array dimensions on a value that is no array")
    return decode_plain(data, offset + 1, end, type)


def is_plain(type: int) -> bool:
    """Whether `decode_plain` knows the built-in type."""
    return type in FIXED or type in _SCALARS


def decode_plain(data: bytes, offset: int, end: int, type: int) -> Value:
    """Decode one value of a built-in type that `is_plain`, without a variant's byte before it. Raises DecodeError."""
    if type in _SCALARS:
        value, after = _SCALARS[type](data, offset, end)
    else:
        (value,), after = read_elements(data, offset, end, type, 1)
    return Value(NULL if value is None else type, False, value, after)


def read_length(data: bytes, offset: int, end: int) -> int:
    """The int32 length at `offset`; raises DecodeError when it lies beyond `end`."""
    if offset + 4 > end:
        raise DecodeError("the message ends inside a length")
    length: int = _I32.unpack_from(data, offset)[0]
    return length


def read_bytes(data: bytes, offset: int, end: int) -> tuple[bytes | None, int]:
    """A ByteString; None for the null one (Part 6, 5.2.2.7)."""
    start = offset + 4
    if start > end:
        raise DecodeError("the message ends inside a length")
    length = _I32.unpack_from(data, offset)[0]
    if length < 0:
        return None, start
    after = start + length
    if after > end:
        raise DecodeError("a string is longer than the message")
    return data[start:after], after


def read_text(data: bytes, offset: int, end: int) -> tuple[str | None, int]:
    """A String; None for the null one (Part 6, 5.2.2.4)."""
    raw, after = read_bytes(data, offset, end)
    return (None if raw is None else decode_text(raw)), after


def decode_text(raw: bytes) -> str:
    """UTF-8; servers do send other encodings (GBK, Latin-1): show the bytes rather than lose the reading or guess."""
    return raw.decode("utf-8", "backslashreplace")


def _qualified_name(data: bytes, offset: int, end: int) -> tuple[str | None, int]:
    return read_text(data, offset + 2, end)


def _localized_text(data: bytes, offset: int, end: int) -> tuple[str | None, int]:
    """The text alone; the locale is dropped (Part 6, 5.2.2.14)."""
    if offset >= end:
        raise DecodeError("the message ends before a localized text")
    mask, text = data[offset], None
    if mask & ~3:
        raise DecodeError(f"mask {mask:#x} of a localized text")
    offset += 1
    if mask & 1:
        _, offset = read_bytes(data, offset, end)
    if mask & 2:
        text, offset = read_text(data, offset, end)
    return text, offset


_SCALARS: Final[dict[int, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    STRING: read_text,
    BYTESTRING: read_bytes,
    XMLELEMENT: read_text,
    QUALIFIED_NAME: _qualified_name,
    LOCALIZED_TEXT: _localized_text,
}


def _array(data: bytes, offset: int, end: int, type: int, dimensions: bool) -> Value:
    length = read_length(data, offset, end)
    offset += 4
    values: list[Any] | None = None
    if length >= 0:
        if type in FIXED:
            values, offset = read_elements(data, offset, end, type, length)
        else:
            values, offset = _sequence(data, offset, end, type, length)
    sound = True
    if dimensions:
        shape, offset = read_shape(data, offset, end)
        if values is not None and shape:
            values = matrix(values, shape)
            sound = values is not None
    return Value(NULL if values is None else type, values is not None, values, offset, sound)


def read_elements(data: bytes, offset: int, end: int, type: int, count: int) -> tuple[list[Any], int]:
    """So many values of a type of fixed width, JSON-able, and where they end. Raises DecodeError."""
    dtype = np.dtype(FIXED[type])
    after = offset + count * dtype.itemsize
    if after > end:
        raise DecodeError("an array is longer than the message")
    if type in FORMATS:  # half the time of numpy for short arrays
        return list(struct.unpack_from(f"<{count}{FORMATS[type]}", data, offset)), after
    return as_list(type, np.frombuffer(data, dtype, count, offset)), after


def as_list(type: int, column: npt.NDArray[Any]) -> list[Any]:
    """A column of a type of fixed width as JSON-able values."""
    if type == BOOLEAN:
        column = column != 0  # any other byte than 0 is true (Part 6, 5.2.2.1)
    elif type == GUID:
        return [format_guid(raw.tobytes()) for raw in column]
    elif type == DATETIME:
        return [format_ticks(ticks) for ticks in column.tolist()]
    values: list[Any] = column.tolist()
    return values


def _sequence(data: bytes, offset: int, end: int, type: int, count: int) -> tuple[list[Any], int]:
    if count > end - offset:
        raise DecodeError("an array is longer than the message")
    read, values = _SCALARS[type], []
    for _ in range(count):
        value, offset = read(data, offset, end)
        values.append(base64.b64encode(value).decode() if isinstance(value, bytes) else value)
    return values, offset


def read_shape(data: bytes, offset: int, end: int) -> tuple[list[int], int]:
    """Array dimensions, and where they end; raises DecodeError."""
    count = max(read_length(data, offset, end), 0)
    after = offset + 4 + 4 * count
    if after > end:
        raise DecodeError("array dimensions are longer than the message")
    return list(struct.unpack_from(f"<{count}i", data, offset + 4)), after


def matrix(values: list[Any], shape: list[int]) -> list[Any] | None:
    """Rows of rows, the last dimension varying fastest (Part 6, 5.2.2.16); None when the dimensions do not fit."""
    if len(shape) > _MOST_DIMENSIONS or min(shape) < 0 or math.prod(shape) != len(values):
        return None
    for size in reversed(shape[1:]):
        if size == 0:
            return []
        values = [values[i : i + size] for i in range(0, len(values), size)]
    return values


def format_ticks(ticks: int) -> str:
    """ISO 8601 text of a DateTime in 100 ns ticks since 1601 (Part 6, 5.2.2.5), to the tick."""
    seconds, fraction = divmod(ticks, 10_000_000)
    return f"{np.datetime64(seconds - _EPOCH, 's')}.{fraction:07d}Z"


def format_guid(raw: bytes) -> str:
    """Text of a Guid: three little-endian fields, then eight bytes (Part 6, 5.2.2.6)."""
    return str(uuid.UUID(bytes_le=raw))
