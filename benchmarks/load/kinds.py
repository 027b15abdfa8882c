"""The values of the OPC UA load: what each item shows at each tick, and how it lies in a notification. Pure.

Every value carries its tick and its item, so that a receiver can tell distinct, missing, repeated and mixed-up values
apart: `tick * SPAN + item` is the integer in it, scrambled to look like noise. Floats hold a fraction of it that is
exact in binary and prints with decimals as measurements do. Kinds that are too narrow for both show a remainder, and
"measured" is as a plant's transmitters are and says neither: see `measured`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.load import measured
from benchmarks.load.scramble import scramble, unscramble

Ints = npt.NDArray[np.int64]
SPAN: Final = 100_000
"""more than any number of items"""
DOUBLE_BITS: Final = 40
DOUBLE_FRACTION: Final = float(1 << 20)
"""doubles are 0 to 1,048,576 with some thirteen digits"""
FLOAT_BITS: Final = 24
FLOAT_FRACTION: Final = 128.0
FLOAT_TICKS: Final = 160
"""a float32 holds 24 bits: its tick begins anew after so many"""
INT_BITS: Final = 31
INT_TICKS: Final = 20_000
LONG_BITS: Final = 62
STRING_DIGITS: Final = 14
_POWERS: Final = 10 ** np.arange(STRING_DIGITS - 1, -1, -1)
MODES: Final = ("Off", "Starting", "Running", "Fault")
"""what the numbers of the enumeration mean"""

_SCRAMBLED: Final = {
    "double": (DOUBLE_BITS, DOUBLE_FRACTION),
    "float": (FLOAT_BITS, FLOAT_FRACTION),
    "int32": (INT_BITS, 1.0),
    "uint32": (INT_BITS, 1.0),
}
_NARROW: Final = {
    "bool": (2, "?"),
    "sbyte": (1 << 8, "i1"),
    "byte": (1 << 8, "u1"),
    "int16": (1 << 16, "<i2"),
    "uint16": (1 << 16, "<u2"),
    "enumeration": (len(MODES), "<i4"),
}
"""how many values a kind shows one after the other, and its numpy type, which begins anew with negative ones"""
_ARRAY: Final = 0x80
STRUCTURE_ENCODING: Final = (2, 5001)
"""namespace and number of the structure's binary encoding"""
_STRUCTURE: Final = b"\x01" + bytes([STRUCTURE_ENCODING[0]]) + STRUCTURE_ENCODING[1].to_bytes(2, "little") + b"\x01"
"""four-byte NodeId; the body is a ByteString (Part 6, 5.2.2.9 and 5.2.2.15)"""


class Kind(NamedTuple):
    """A type of value: its Variant's first byte, and the width of its encoding."""

    name: str
    variant: int
    width: int
    element: str = ""
    """kind of an array's elements"""
    length: int = 0
    """of an array"""

    @property
    def built_in(self) -> int:
        """Number of the built-in type, of an array's elements (Part 6, 5.1.2)."""
        return self.variant & 0x3F


_SCALARS: Final = {
    kind.name: kind
    for kind in (
        Kind("bool", 1, 1),
        Kind("sbyte", 2, 1),
        Kind("byte", 3, 1),
        Kind("int16", 4, 2),
        Kind("uint16", 5, 2),
        Kind("int32", 6, 4),
        Kind("uint32", 7, 4),
        Kind("int64", 8, 8),
        Kind("uint64", 9, 8),
        Kind("float", 10, 4),
        Kind("double", 11, 8),
        Kind("string", 12, 4 + STRING_DIGITS),
        Kind("enumeration", 6, 4),
        Kind("measured", 11, 8),
    )
}
FIELDS: Final = (
    ("Level", "double"),
    ("Step", "int32"),
    ("Mode", "enumeration"),
    ("Running", "bool"),
    ("Batch", "string"),
)
"""names and kinds of the structure's fields"""
_BODY_BYTES: Final = sum(_SCALARS[kind].width for _, kind in FIELDS)


def _array(element: str, length: int) -> Kind:
    kind = _SCALARS[element]
    return Kind(f"{element}[{length}]", _ARRAY | kind.variant, 4 + length * kind.width, element, length)


_ARRAYS: Final = (_array("float", 8), _array("int16", 4))
KINDS: Final = {
    **_SCALARS,
    **{kind.name: kind for kind in _ARRAYS},
    "structure": Kind("structure", 22, len(_STRUCTURE) + 4 + _BODY_BYTES),
}
MIX: Final = ("double", "float", "int32", "bool", "double", "uint32", "float", "int16", "double", "string")
"""kinds of items 0, 1, 2 ... where there is a mix of scalars, repeated"""
_HUNDRED: Final = {
    "double": 26, "float": 22, "bool": 16, "int32": 8, "int16": 7, "uint16": 5, "enumeration": 4, "string": 3,
    "uint32": 2, "byte": 1, "sbyte": 1, "int64": 1, "uint64": 1, "float[8]": 1, "int16[4]": 1, "structure": 1,
}  # fmt: skip
"""of a plant's points"""


def _spread() -> tuple[str, ...]:
    """The hundred, each kind evenly among the others."""
    places = [((k + 0.5) / count, name) for name, count in _HUNDRED.items() for k in range(count)]
    return tuple(name for _, name in sorted(places))


PLANT: Final = _spread()
"""kinds of items 0, 1, 2 ... of a plant, repeated"""
PATTERNS: Final = {"mix": MIX, "plant": PLANT}

TICKS: Final = 9_600
"""after which a plant's values begin anew: a reading's time carries its tick, so that every kind can be checked"""
ORDERS: Final = 20
"""after which a plant's order of changes begins anew; divides TICKS"""
STATUSES: Final = np.array((0, 0x40900000, 0x808C0000, 0x808B0000), np.uint32)
"""status of each state: Good, UncertainLastUsableValue, BadSensorFailure with a value, BadDeviceFailure without"""
WITHOUT_VALUE: Final = 3
"""the state"""
_MILLISECOND: Final = 10_000


def kind_of(item: int, type: str) -> Kind:
    """The kind of an item; `type` is a kind's name or that of a pattern."""
    pattern = PATTERNS.get(type)
    return KINDS[pattern[item % len(pattern)] if pattern else type]


def states(ticks: int | Ints, items: Ints) -> npt.NDArray[np.uint8]:
    """uint8[n]: the state of a plant's items, an index of STATUSES; one percent each is not Good."""
    found = (items * 7 + items // 100 * 13 + ticks % ORDERS * 31) % 100
    return np.where(found < len(STATUSES) - 1, found + 1, 0).astype(np.uint8)


def moment(type: str, tick: int, time: int) -> tuple[int, int]:
    """The tick that values show, and the time that they carry (100 ns): in a plant its last digits are the tick."""
    if type != "plant":
        return tick, time
    return tick % TICKS, time - time % _MILLISECOND + tick % TICKS


def ticks_of(times_ns: Ints) -> Ints:
    """int64[n]: the ticks that a plant's times carry."""
    return times_ns // 100 % _MILLISECOND


def numbers(kind: str, tick: int | Ints, items: Ints) -> npt.NDArray[Any]:
    """The values of `items` at `tick` (one, or as many), as the receiver must find them.

    A string is the integer that it spells. No array or structure.
    """
    if kind in _NARROW:
        most, dtype = _NARROW[kind]
        return ((tick * 7 + items) % most).astype(dtype)
    if kind in ("int64", "uint64"):
        return (scramble(tick * SPAN + items, LONG_BITS).astype(np.uint64) * np.uint64(4)).view(kind)
    if kind in ("int32", "uint32"):
        return scramble(tick % INT_TICKS * SPAN + items, INT_BITS).astype(kind)
    if kind == "float":
        return (scramble(tick % FLOAT_TICKS * SPAN + items, FLOAT_BITS) / FLOAT_FRACTION).astype(np.float32)
    if kind == "measured":
        return measured.shown(int(tick), measured.DOUBLES + items)
    if kind == "double":
        return scramble(tick * SPAN + items, DOUBLE_BITS) / DOUBLE_FRACTION
    return tick * SPAN + items


def ticks_and_items(kind: str, values: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """What `numbers` was given, for doubles, floats (tick modulo FLOAT_TICKS) and 32-bit integers (INT_TICKS)."""
    bits, fraction = _SCRAMBLED[kind]
    whole = unscramble(np.rint(values * fraction).astype(np.int64), bits)
    ticks, items = np.divmod(whole, SPAN)
    return ticks, items


def encoded(kind: Kind, tick: int, items: Ints) -> npt.NDArray[np.uint8]:
    """uint8[n, kind.width]: the values as they lie in a Variant, behind its first byte."""
    if kind.name == "string":
        return _text(tick * SPAN + items)
    if kind.element:
        return _elements(kind, tick, items)
    if kind.name == "structure":
        return _structure(tick, items)
    values = numbers(kind.name, tick, items)
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(items), kind.width)


def element_items(kind: Kind, items: Ints) -> Ints:
    """int64[n, kind.length]: the items whose values the elements of arrays show."""
    return (items[:, None] + np.arange(kind.length)) % SPAN


def _text(whole: Ints) -> npt.NDArray[np.uint8]:
    text = np.empty((len(whole), 4 + STRING_DIGITS), np.uint8)
    text[:, :4] = _bytes(STRING_DIGITS)
    text[:, 4:] = whole[:, None] // _POWERS % 10 + ord("0")
    return text


def _elements(kind: Kind, tick: int, items: Ints) -> npt.NDArray[np.uint8]:
    found = encoded(KINDS[kind.element], tick, element_items(kind, items).ravel()).reshape(len(items), kind.width - 4)
    return np.hstack([np.broadcast_to(_bytes(kind.length), (len(items), 4)), found])


def _structure(tick: int, items: Ints) -> npt.NDArray[np.uint8]:
    head = np.frombuffer(_STRUCTURE + _BODY_BYTES.to_bytes(4, "little"), np.uint8)
    fields = [encoded(KINDS[kind], tick, items) for _, kind in FIELDS]
    return np.hstack([np.broadcast_to(head, (len(items), len(head))), *fields])


def _bytes(length: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(length.to_bytes(4, "little"), np.uint8)
