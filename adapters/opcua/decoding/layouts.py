"""Binary layouts of a monitored item notification whose value has a fixed width (Part 6, 5.2.2.16 and 5.2.2.17).

A notification item is ClientHandle, then a DataValue: a mask, then what the mask names. With a value of a fixed width
the pair (mask, variant type) fixes the whole item's size, so equal items are an array to numpy.

The answer to a Read has DataValues without handles, one directly behind the other. They are taken as items all the
same: each begins HANDLE bytes before its DataValue, in bytes that it shares with whatever comes before it.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Final, NamedTuple

import numpy as np

VALUE: Final = 0x01
STATUS: Final = 0x02
SOURCE: Final = 0x04
SERVER: Final = 0x08
SOURCE_PICO: Final = 0x10
SERVER_PICO: Final = 0x20
MASKS: Final = 0x40
"""masks are below this; the bits above are reserved"""
HANDLE: Final = 4
"""bytes of an item before its DataValue"""

NULL: Final = 0
BOOLEAN: Final = 1
SBYTE: Final = 2
BYTE: Final = 3
INT16: Final = 4
UINT16: Final = 5
INT32: Final = 6
UINT32: Final = 7
INT64: Final = 8
UINT64: Final = 9
FLOAT: Final = 10
DOUBLE: Final = 11
STRING: Final = 12
DATETIME: Final = 13
GUID: Final = 14
BYTESTRING: Final = 15
XMLELEMENT: Final = 16
NODEID: Final = 17
EXPANDED_NODEID: Final = 18
STATUSCODE: Final = 19
QUALIFIED_NAME: Final = 20
LOCALIZED_TEXT: Final = 21
EXTENSION_OBJECT: Final = 22
DATA_VALUE: Final = 23
VARIANT: Final = 24
DIAGNOSTIC_INFO: Final = 25

ARRAY: Final = 0x80
DIMENSIONS: Final = 0x40

FIXED: Final[dict[int, str]] = {
    BOOLEAN: "u1",
    SBYTE: "i1",
    BYTE: "u1",
    INT16: "<i2",
    UINT16: "<u2",
    INT32: "<i4",
    UINT32: "<u4",
    INT64: "<i8",
    UINT64: "<u8",
    FLOAT: "<f4",
    DOUBLE: "<f8",
    DATETIME: "<i8",
    GUID: "V16",
    STATUSCODE: "<u4",
}
"""numpy format of each built-in type of fixed width (Part 6, 5.1.2)"""

# After the value. Each picoseconds field follows its own timestamp (Part 6, table "DataValue").
_TAIL: Final = (
    (STATUS, "status", "<u4"),
    (SOURCE, "source", "<i8"),
    (SOURCE_PICO, "source_pico", "<u2"),
    (SERVER, "server", "<i8"),
    (SERVER_PICO, "server_pico", "<u2"),
)


class Layout(NamedTuple):
    """An item's layout; `key` is mask + 256 x variant type, or the mask alone where it names no value."""

    key: int
    mask: int
    type: int
    dtype: np.dtype[Any]


@functools.cache
def layout(key: int) -> Layout:
    """The layout of `key`; raises KeyError when items of this key have no fixed size."""
    mask, variant = key & 0xFF, key >> 8
    if mask >= MASKS:
        raise KeyError(key)
    fields: list[tuple[str, str]] = [("handle", "<u4"), ("mask", "u1")]
    type = NULL
    if mask & VALUE:
        fields.append(("variant", "u1"))
        type = variant
        if variant != NULL:
            fields.append(("value", FIXED[variant]))
    fields += [(name, format) for bit, name, format in _TAIL if mask & bit]
    return Layout(key, mask, type, np.dtype(fields))


def _sizes() -> bytes:
    sizes = bytearray(1 << 16)
    for mask in range(MASKS):
        if mask & VALUE:
            for variant in (NULL, *FIXED):
                sizes[mask | variant << 8] = layout(mask | variant << 8).dtype.itemsize
        else:
            for second in range(256):
                sizes[mask | second << 8] = layout(mask).dtype.itemsize
    return bytes(sizes)


SIZES: Final = _sizes()
"""Item size by the two bytes at the mask (little-endian); 0 = variable size, or not a DataValue."""


TEXTS: Final = (STRING, BYTESTRING, XMLELEMENT)
"""types that are a length and as many bytes"""

LONG: Final = 0x80
"""see STEPS"""


def _steps() -> bytes:
    steps = bytearray(SIZES)
    for mask in range(MASKS):
        if mask & VALUE:
            for variant in TEXTS:
                steps[mask | variant << 8] = LONG | 4 + 2 + 4 + tail_dtype(mask).itemsize
    return bytes(steps)


@functools.cache
def tail_dtype(mask: int) -> np.dtype[Any]:
    """The fields after the value as a record; without fields, of no size."""
    return np.dtype([(name, format) for bit, name, format in _TAIL if mask & bit])


STEPS: Final = np.frombuffer(_steps(), np.uint8)
"""uint8[65536], as SIZES; of a scalar of TEXTS, LONG + the size of everything but its bytes."""


VALUE_STEPS: Final = np.where(STEPS > 0, STEPS - np.uint8(HANDLE), np.uint8(0))
"""As STEPS, from a DataValue to the next where there are no handles."""


class Tail(NamedTuple):
    """What follows the value, and where in it status and timestamps are; -1 = absent."""

    struct: struct.Struct
    status: int
    source: int
    server: int


def _tail(mask: int) -> Tail:
    present = [(bit, format) for bit, _, format in _TAIL if mask & bit]
    bits = [bit for bit, _ in present]
    places = (bits.index(bit) if bit in bits else -1 for bit in (STATUS, SOURCE, SERVER))
    formats = {"<u4": "I", "<i8": "q", "<u2": "H"}
    return Tail(struct.Struct("<" + "".join(formats[format] for _, format in present)), *places)


TAILS: Final = tuple(_tail(mask) for mask in range(MASKS))
"""By mask: the fields after the value"""
