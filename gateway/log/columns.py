"""One column of a batch as bytes and back (docs/log-format.md, Column). Pure: no I/O, no clock.

Columns that repeat or count up shrink to a few bytes here, the rest is put into byte planes, so that the fast
compressor that follows finds the equal high bytes next to each other.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from gateway.log import short_columns
from gateway.log.encodings import (
    BITS,
    BLOBS,
    CONSTANT,
    DECIMAL,
    DELTAS,
    JSON,
    JSON_PLUS,
    NARROW,
    OFFSETS,
    RANGE,
    RAW,
    decimals,
    narrow_width,
    sampled,
    usable_scale,
)
from gateway.log.errors import LogCorruptError, LogFormatError

_U32: Final = struct.Struct("<I")
_UNSIGNED: Final[dict[int, np.dtype[Any]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}

_SIGNED: Final[dict[int, np.dtype[Any]]] = {2: np.dtype("<i2"), 4: np.dtype("<i4"), 8: np.dtype("<i8")}

_LENGTHS: Final[dict[int, Callable[[int, int], int]]] = {
    RAW: lambda count, width: count * width,
    CONSTANT: lambda _, width: width,
    BITS: lambda count, _: (count + 7) // 8,
    RANGE: lambda _, width: 2 * width,
}
"""bytes of a column of so many values of that width, for encodings of which that is all that counts"""

Column = npt.NDArray[Any]


class Reader:
    """A cursor over decompressed bytes. Every method raises LogCorruptError when the bytes end too early."""

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        end = self.offset + length
        if end > len(self.data):
            raise LogCorruptError(
                f"{length} bytes expected at offset {self.offset}, found {len(self.data) - self.offset}"
            )
        piece = self.data[self.offset : end]
        self.offset = end
        return piece

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields, by their layout."""
        return layout.unpack(self.take(layout.size))


def bounds(column: Column) -> tuple[int, int]:
    """Least and greatest of a column of integers."""
    if len(column) <= short_columns.MOST:
        raw = column.tobytes()
        if raw[column.itemsize :] == raw[: -column.itemsize]:  # as the times of one answer are
            value = int(column[0])
            return value, value
        values = column.tolist()
        return min(values), max(values)
    # The methods of the same name take half as long again.
    return int(np.minimum.reduce(column)), int(np.maximum.reduce(column))


def encode_floats(column: Column) -> bytes:
    """A column of floats, bit-exact: constant, decimals with few digits as integers, else raw in byte planes."""
    column = _little(column)
    raw = column.tobytes()
    width = column.itemsize
    if len(column) <= short_columns.MOST:
        return short_columns.encode_floats(raw, column.tolist(), width)
    if raw[width:] == raw[:-width]:
        return bytes((CONSTANT,)) + raw[:width]
    decimal = _decimal(column, raw)
    if decimal is not None and len(decimal) < len(raw):
        return decimal
    return bytes((RAW,)) + _planes(raw, width)


def encode_integers(column: Column) -> bytes:
    """A column of integers of any width: constant, range, narrow offsets or deltas, else raw; exact modulo 2^width."""
    column = _little(column)
    raw = column.tobytes()
    width = column.itemsize
    if raw[width:] == raw[:-width]:
        return bytes((CONSTANT,)) + raw[:width]
    if width == 1:
        return bytes((RAW,)) + raw
    if len(column) <= short_columns.MOST:
        return short_columns.encode_integers(raw, column.tolist(), width)
    unsigned = np.frombuffer(raw, _UNSIGNED[width])
    steps: Column = unsigned[1:] - unsigned[:-1]
    steps_raw: bytes = steps.tobytes()
    if steps_raw[width:] == steps_raw[:-width]:
        return bytes((RANGE,)) + raw[:width] + steps_raw[:width]
    low, high = bounds(column)
    span = high - low
    # Below 2^62 no difference wraps, so dividing by the unit is exact.
    scale = _common_scale(unsigned - unsigned[0]) if width == 8 and 0xFFFF < span < 1 << 62 else 1
    narrow = narrow_width(span // scale)
    # Deltas pay where the values run far but evenly; at equal width offsets are cheaper to read.
    if narrow > 2:
        signed = steps.view(_SIGNED[width])
        low_step, high_step = bounds(signed)
        narrow_steps = narrow_width((high_step - low_step) // scale)
        if narrow_steps < min(narrow, width):
            return bytes((DELTAS,)) + raw[:width] + _narrowed(steps, low_step, scale, narrow_steps)
    if narrow < width:
        return bytes((OFFSETS,)) + _narrowed(unsigned, low, scale, narrow)
    return bytes((RAW,)) + _planes(raw, width)


def encode_bools(column: Column) -> bytes:
    """A column of bool: constant, else one bit each."""
    raw = column.tobytes()
    if raw[1:] == raw[:-1]:
        return bytes((CONSTANT,)) + raw[:1]
    return bytes((BITS,)) + np.packbits(column).tobytes()


def encode_strings(column: Column) -> bytes:
    """An object column of str; what is not a str (no value) becomes empty."""
    return _encode_blobs([v.encode("utf-8", "surrogatepass") if isinstance(v, str) else b"" for v in column])


def encode_bytes(column: Column) -> bytes:
    """An object column of bytes; what is not bytes (no value) becomes empty."""
    return _encode_blobs([v if isinstance(v, bytes) else b"" for v in column])


def encode_json(values: list[Any]) -> bytes:
    """JSON-able values, floats exact: NaN and infinities survive, though JSON has none. Anything else becomes text."""
    kind = JSON
    try:
        text = orjson.dumps(values)
    except TypeError:
        # Beyond 64 bits, or lone surrogates: the standard library writes both. What is not JSON at all becomes text:
        # one odd value must not end the log.
        kind, text = JSON_PLUS, json.dumps(values, default=str).encode()
    else:
        if b"null" in text and not _finite(values):
            kind, text = JSON_PLUS, json.dumps(values).encode()
    return bytes((kind,)) + _U32.pack(len(text)) + text


def encode_json_column(column: Column) -> bytes:
    """An object column of JSON-able values."""
    return encode_json(column.tolist())


def decode_column(reader: Reader, count: int, dtype: np.dtype[Any]) -> Column:
    """A column of `count` numbers of `dtype`. Raises LogFormatError for an unknown encoding, LogCorruptError."""
    encoding = reader.take(1)[0]
    width = dtype.itemsize
    unsigned = _UNSIGNED[width]
    if encoding == RAW:
        return _unplanes(reader.take(count * width), width).view(dtype)
    if encoding == CONSTANT:
        column = np.empty(count, unsigned)
        column[:] = np.frombuffer(reader.take(width), unsigned)[0]
        return column.view(dtype)
    if encoding == BITS:
        packed = np.frombuffer(reader.take((count + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=count).view(dtype)
    if encoding == RANGE:
        first, step = np.frombuffer(reader.take(2 * width), unsigned)
        counted: Column = np.arange(count, dtype=unsigned)
        counted *= step
        counted += first
        return counted.view(dtype)
    if encoding == OFFSETS:
        return _widen(reader, count, unsigned).view(dtype)
    if encoding == DECIMAL:
        digits = reader.take(1)[0]
        scaled = decode_column(reader, count, np.dtype(np.int64))
        return (scaled / 10.0**digits).astype(dtype)
    if encoding == DELTAS:
        column = np.empty(count, unsigned)
        column[0] = np.frombuffer(reader.take(width), unsigned)[0]
        column[1:] = _widen(reader, count - 1, unsigned)
        return np.cumsum(column, dtype=unsigned).view(dtype)
    raise LogFormatError(f"column encoding {encoding} is not known to this version; a newer version wrote it")


def pass_over(reader: Reader, count: int, dtype: np.dtype[Any]) -> None:
    """Go past what `decode_column` would decode. Raises as it does."""
    encoding = reader.take(1)[0]
    width = dtype.itemsize
    if encoding == DECIMAL:
        reader.take(1)
        pass_over(reader, count, np.dtype(np.int64))
    elif encoding in (OFFSETS, DELTAS):
        reader.take(width if encoding == OFFSETS else 2 * width)
        narrow = reader.unpack(NARROW)[1]
        reader.take((count - (encoding == DELTAS)) * narrow)
    elif encoding in _LENGTHS:
        reader.take(_LENGTHS[encoding](count, width))
    else:
        raise LogFormatError(f"column encoding {encoding} is not known to this version; a newer version wrote it")


def decode_strings(reader: Reader, count: int) -> Column:
    """An object column of str."""
    return _objects([blob.decode("utf-8", "surrogatepass") for blob in _decode_blobs(reader, count)])


def decode_bytes(reader: Reader, count: int) -> Column:
    """An object column of bytes."""
    return _objects(_decode_blobs(reader, count))


def decode_json(reader: Reader) -> list[Any]:
    """The values that `encode_json` was given."""
    encoding = reader.take(1)[0]
    if encoding not in (JSON, JSON_PLUS):
        raise LogFormatError(f"JSON encoding {encoding} is not known to this version; a newer version wrote it")
    text = reader.take(reader.unpack(_U32)[0])
    values: list[Any] = orjson.loads(text) if encoding == JSON else json.loads(text)
    return values


def decode_json_column(reader: Reader, count: int) -> Column:
    """An object column of JSON-able values."""
    values = decode_json(reader)
    if len(values) != count:
        raise LogCorruptError(f"{count} JSON values expected, found {len(values)}")
    return _objects(values)


def _little(column: Column) -> Column:
    return column if column.dtype.byteorder in "=<|" else column.astype(column.dtype.newbyteorder("<"))


def _planes(raw: bytes, width: int) -> bytes:
    if width == 1:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(-1, width).T.tobytes()


def _unplanes(planes: bytes, width: int) -> Column:
    # The copy makes the column writable, aligned and independent of the segment's bytes.
    return np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(width, -1).T).reshape(-1).view(_UNSIGNED[width])


def _decimal(column: Column, raw: bytes) -> bytes | None:
    """The column as integers over a power of ten, where dividing them gives back every bit; else None.

    Instruments have three to five digits: as a double 20.1 is eight bytes that no compressor shrinks. Dividing is
    exact to the bit on every machine (IEEE 754, correctly rounded), multiplying by 0.1 would not be.
    """
    found = decimals(column[sampled(len(column))].tolist(), column.itemsize)
    if found is None:
        return None
    digits = found[0]
    power = 10.0**digits
    with np.errstate(all="ignore"):
        # What is not finite turns into some integer here, and does not come back.
        scaled = np.rint(column.astype(np.float64) * power).astype(np.int64)
        if (scaled / power).astype(column.dtype).tobytes() != raw:
            return None
    return bytes((DECIMAL, digits)) + encode_integers(scaled)


def _narrowed(unsigned: Column, low: int, scale: int, narrow: int) -> bytes:
    """The column as base + scale x narrow unsigned."""
    width = unsigned.itemsize
    base = low & (1 << 8 * width) - 1
    offsets = unsigned - unsigned.dtype.type(base)
    if scale != 1:
        offsets //= unsigned.dtype.type(scale)
    data = _planes(offsets.astype(_UNSIGNED[narrow]).tobytes(), narrow)
    return base.to_bytes(width, "little") + NARROW.pack(scale, narrow) + data


def _common_scale(differences: Column) -> int:
    """What to divide by: the unit that all differences, taken as signed, are multiples of."""
    signed = differences.view(np.int64)
    unit = math.gcd(*signed[:16].tolist())
    if unit == 1:
        return 1
    if unit == 0 or (signed // unit * unit).tobytes() != signed.tobytes():
        unit = int(np.gcd.reduce(signed))
    return usable_scale(unit)


def _widen(reader: Reader, count: int, unsigned: np.dtype[Any]) -> Column:
    base = np.frombuffer(reader.take(unsigned.itemsize), unsigned)[0]
    scale, narrow = reader.unpack(NARROW)
    if narrow not in (1, 2, 4):
        raise LogFormatError(f"narrow width {narrow} is not known to this version; a newer version wrote it")
    column = _unplanes(reader.take(count * narrow), narrow).astype(unsigned)
    if scale != 1:
        column *= unsigned.type(scale)
    column += base
    return column


def _encode_blobs(blobs: list[bytes]) -> bytes:
    lengths = np.fromiter(map(len, blobs), np.uint32, len(blobs))
    data = b"".join(blobs)
    return bytes((BLOBS,)) + encode_integers(lengths) + _U32.pack(len(data)) + data


def _decode_blobs(reader: Reader, count: int) -> list[bytes]:
    encoding = reader.take(1)[0]
    if encoding != BLOBS:
        raise LogFormatError(f"blob encoding {encoding} is not known to this version; a newer version wrote it")
    lengths = decode_column(reader, count, np.dtype(np.uint32))
    total = reader.unpack(_U32)[0]
    ends = np.cumsum(lengths, dtype=np.int64)
    if count and int(ends[-1]) != total:
        raise LogCorruptError(f"blobs of {int(ends[-1])} bytes expected, found {total}")
    data = reader.take(total)
    return [data[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _objects(values: list[Any]) -> Column:
    column = np.empty(len(values), object)
    for index, value in enumerate(values):  # numpy would read a list of lists as a matrix
        column[index] = value
    return column


def _finite(value: Any) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case list() | tuple():
            return all(map(_finite, value))
        case dict():
            return all(map(_finite, value.values()))
        case _:
            return True
