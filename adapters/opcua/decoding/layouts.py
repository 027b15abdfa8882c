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
import numpy.typing as npt

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

FORMATS: Final[dict[int, str]] = {
    BOOLEAN: "?",
    SBYTE: "b",
    BYTE: "B",
    INT16: "h",
    UINT16: "H",
    INT32: "i",
    UINT32: "I",
    INT64: "q",
    UINT64: "Q",
    FLOAT: "f",
    DOUBLE: "d",
    STATUSCODE: "I",
}
"""struct format of those that are numbers"""

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

LENGTH: Final = HANDLE + 2
"""where in an item the length of a text or an array is"""
BODY: Final = 0xFF
"""see STEPS"""


def _steps() -> npt.NDArray[np.uint16]:
    steps = np.frombuffer(SIZES, np.uint8).astype(np.uint16)
    counted = dict.fromkeys(TEXTS, 1) | {ARRAY | type: np.dtype(format).itemsize for type, format in FIXED.items()}
    for mask in range(VALUE, MASKS, 2):
        head = LENGTH + tail_dtype(mask).itemsize
        for variant, unit in counted.items():
            steps[mask | variant << 8] = unit << 8 | head + 4
        steps[mask | EXTENSION_OBJECT << 8] = BODY << 8 | head
    return steps


@functools.cache
def tail_dtype(mask: int) -> np.dtype[Any]:
    """The fields after the value as a record; without fields, of no size."""
    return np.dtype([(name, format) for bit, name, format in _TAIL if mask & bit])


STEPS: Final = _steps()
"""uint16[65536] by the two bytes at the mask: an item's size without what its length counts, + 256 x how many bytes the
length at LENGTH counts by, 0 = it has none. BODY in place of that: type id, encoding and bytes of a structure come on
top. 0 = neither."""


def _from_end(field: str) -> npt.NDArray[np.uint8]:
    places = np.zeros(MASKS, np.uint8)
    for mask in range(MASKS):
        tail = tail_dtype(mask)
        if tail.fields and field in tail.fields:
            places[mask] = tail.itemsize - tail.fields[field][1]
    return places


FROM_END: Final = {field: _from_end(field) for field in ("status", "source", "server")}
"""uint8[64] by mask: how far before the end of an item the field begins, 0 = it has none"""


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
