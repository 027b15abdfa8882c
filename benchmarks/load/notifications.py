"""Pre-encoded DataChangeNotifications: templates whose values and times are patched by numpy. Pure.

A server that encodes value by value is slower than the gateway that it is to load, so everything that does not change
from tick to tick is encoded once. Binary layout: OPC UA Part 6, 5.2.2.16 (Variant), 5.2.2.17 (DataValue); Part 4,
7.25.2 (MonitoredItemNotification).

Every value carries its tick and its item, so that a receiver can tell distinct, missing, repeated and mixed-up values
apart: `tick * SPAN + item` is the integer in it, scrambled to look like noise. Floats hold a fraction of it that is
exact in binary and prints with decimals as measurements do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.load.scramble import scramble, unscramble

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
STRING_DIGITS: Final = 14

VALUE: Final = 0x01
SOURCE: Final = 0x04
SERVER: Final = 0x08

_SCRAMBLED: Final = {
    "double": (DOUBLE_BITS, DOUBLE_FRACTION),
    "float": (FLOAT_BITS, FLOAT_FRACTION),
    "int32": (INT_BITS, 1.0),
    "uint32": (INT_BITS, 1.0),
}
_EPOCH_TICKS: Final = 116_444_736_000_000_000
_DATA_CHANGE: Final = b"\x01\x00\x2b\x03\x01"  # NodeId i=811, body is a ByteString
_NO_DIAGNOSTICS: Final = b"\xff\xff\xff\xff"


class Kind(NamedTuple):
    """A type of value: its number as a Variant, and the width of its encoding."""

    name: str
    variant: int
    width: int


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("bool", 1, 1),
        Kind("int16", 4, 2),
        Kind("int32", 6, 4),
        Kind("uint32", 7, 4),
        Kind("float", 10, 4),
        Kind("double", 11, 8),
        Kind("string", 12, 4 + STRING_DIGITS),
    )
}
MIX: Final = ("double", "float", "int32", "bool", "double", "uint32", "float", "int16", "double", "string")
"""kinds of items 0, 1, 2 ... of a realistic mix, repeated"""


def kind_of(item: int, type: str) -> Kind:
    """The kind of an item; `type` is a kind's name or "mix"."""
    return KINDS[MIX[item % len(MIX)] if type == "mix" else type]


def filetime(time_ns: int) -> int:
    """100 ns ticks since 1601 of ns since 1970 (Part 6, 5.2.2.5)."""
    return time_ns // 100 + _EPOCH_TICKS


def numbers(kind: str, tick: int, items: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The values of `items` at `tick`, as the receiver must find them; strings as the integer that they spell."""
    if kind == "bool":
        return ((tick + items) & 1).astype(np.bool_)
    if kind == "int16":
        return ((tick * 7 + items) % 0x8000).astype(np.int16)
    if kind in ("int32", "uint32"):
        return scramble(tick % INT_TICKS * SPAN + items, INT_BITS).astype(kind)
    if kind == "float":
        return (scramble(tick % FLOAT_TICKS * SPAN + items, FLOAT_BITS) / FLOAT_FRACTION).astype(np.float32)
    if kind == "double":
        return scramble(tick * SPAN + items, DOUBLE_BITS) / DOUBLE_FRACTION
    return tick * SPAN + items


def ticks_and_items(kind: str, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What `numbers` was given, for doubles, floats (tick modulo FLOAT_TICKS) and 32-bit integers (INT_TICKS)."""
    bits, fraction = _SCRAMBLED[kind]
    whole = unscramble(np.rint(values * fraction).astype(np.int64), bits)
    ticks, items = np.divmod(whole, SPAN)
    return ticks, items


def encoded(kind: Kind, tick: int, items: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """uint8[n, kind.width]: the values as they lie in a Variant."""
    values = numbers(kind.name, tick, items)
    if kind.name != "string":
        return np.ascontiguousarray(values).view(np.uint8).reshape(len(items), kind.width)
    text = np.empty((len(items), kind.width), np.uint8)
    text[:, :4] = np.frombuffer(STRING_DIGITS.to_bytes(4, "little"), np.uint8)
    for place in range(kind.width - 1, 3, -1):
        values, digit = np.divmod(values, 10)
        text[:, place] = digit + ord("0")
    return text


class Part:
    """One notification's items: encodes them for any tick.

    `handles[k]` is the client handle of item `items[k]`; `mask` says which times the client wants.
    """

    def __init__(self, handles: Sequence[int], items: Sequence[int], type: str, mask: int) -> None:
        self.count = len(items)
        self._times = mask.bit_count() - 1
        kinds = [kind_of(item, type) for item in items]
        widths = np.array([6 + kind.width + 8 * self._times for kind in kinds])
        self._records = np.zeros((self.count, int(widths.max())), np.uint8)
        self._records[:, :4] = np.array(handles, "<u4").view(np.uint8).reshape(-1, 4)
        self._records[:, 4] = mask
        self._records[:, 5] = [kind.variant for kind in kinds]
        # None = all items are equally wide: nothing has to be cut out
        self._used = None if (widths == widths[0]).all() else np.arange(self._records.shape[1]) < widths[:, None]
        everything = np.array(items, np.int64)
        names = np.array([kind.name for kind in kinds])
        self._groups = [
            (KINDS[name], _rows(names == name), everything[names == name]) for name in dict.fromkeys(names.tolist())
        ]

    def encode(self, tick: int, time: int) -> bytes:
        """A NotificationData extension object with every item's value at `tick`; `time` is in 100 ns since 1601."""
        records = self._records
        stamp = np.frombuffer(time.to_bytes(8, "little") * self._times, np.uint8)
        for kind, rows, items in self._groups:
            end = 6 + kind.width
            records[rows, 6:end] = encoded(kind, tick, items)
            records[rows, end : end + len(stamp)] = stamp
        content = records.tobytes() if self._used is None else records[self._used].tobytes()
        head = (4 + len(content) + 4).to_bytes(4, "little") + self.count.to_bytes(4, "little")
        return b"".join((_DATA_CHANGE, head, content, _NO_DIAGNOSTICS))


def _rows(selected: npt.NDArray[np.bool_]) -> Any:
    """A slice where all rows are selected (assignment is then a copy), else their numbers."""
    return slice(None) if selected.all() else np.flatnonzero(selected)


def parts(handles: Sequence[int], items: Sequence[int], type: str, mask: int, most: int) -> list[Part]:
    """Notifications of at most `most` items that cover all of `items` in order."""
    return [Part(handles[k : k + most], items[k : k + most], type, mask) for k in range(0, len(items), most)]
