"""Values that one gather decodes for all points of a kind: bits, integers, floats, numbers with a sign bit. Pure.

Numbers that lie one behind the other, their bytes in an order that numpy knows, are looked at where they are. Otherwise
there is for each kind an array of word positions, least significant word first, so one gather and one view decode all
points of that kind, whatever their word order; byte order only decides which of two views of the same bytes is
gathered from. Registers travel most significant byte first (MODBUS Application Protocol V1.1b3, 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.modbus.point import ModbusPointConfig, RegisterType

Columns = npt.NDArray[Any]


class Cells:
    """The joined replies of one cycle, seen in the ways that decoders need: each is made for the first who needs it."""

    def __init__(self, raw: bytes, packed: bytes) -> None:
        """`raw`: the registers' bytes as sent; `packed`: the bytes of the bits, least significant bit first."""
        self.raw = raw
        self._packed = packed

    @cached_property
    def words(self) -> Columns:
        """uint16[n]: registers, high byte sent first."""
        return self.swapped.byteswap()

    @cached_property
    def swapped(self) -> Columns:
        """uint16[n]: the same with the low byte first."""
        return np.frombuffer(self.raw, _LOW_FIRST)

    @cached_property
    def bits(self) -> Columns:
        """uint8[n] of 0 or 1."""
        return np.unpackbits(np.frombuffer(self._packed, np.uint8), bitorder="little")


class Place(NamedTuple):
    """A point of a kind: its config, and the first word or bit of it in the joined replies."""

    config: ModbusPointConfig
    start: int


class Gather(NamedTuple):
    """The decoder of all points of a kind."""

    numbers: Callable[[Cells], Columns]
    """as they were sent, a column of its own: whoever asked may keep it"""
    invalid: Callable[[Columns], npt.NDArray[np.bool_]] | None
    """which of these numbers stand for no value"""
    convert: Callable[[Columns], Columns] | None
    """from these numbers to values; None = they are"""


def kind(config: ModbusPointConfig) -> tuple[Any, ...] | None:
    """What points must have in common to be decoded by one gather; None for those that need a call each."""
    type = config.register_type
    if config.count is not None or type not in _GATHERED:
        return None
    flag = type is RegisterType.BOOL and config.bit is None
    return config.address.table.is_bits, type, config.swaps_bytes, flag, config.sign, bool(config.invalid)


def gather(places: Sequence[Place]) -> Gather:
    """The decoder of points of one kind, choosing everything now and nothing per cycle."""
    config = places[0].config
    return Gather(
        _numbers(places),
        _invalid(places, config.register_type) if config.invalid else None,
        _sign_magnitude if config.sign == "magnitude" else None,
    )


def _numbers(places: Sequence[Place]) -> Callable[[Cells], Columns]:
    """The points' numbers in their own dtype; as unsigned numbers where a sign bit is to be taken out."""
    config = places[0].config
    type, swapped = config.register_type, config.swaps_bytes
    starts = np.array([place.start for place in places], np.intp)
    if config.address.table.is_bits:
        return lambda cells: cells.bits.take(starts).view(np.bool_)

    def words(cells: Cells, index: npt.NDArray[np.intp]) -> Columns:
        found = cells.swapped if swapped else cells.words
        # `take` is the faster one for many, but lets other threads run meanwhile, however few they are.
        return found.take(index) if len(index) > _MANY else found[index]

    if type is RegisterType.BOOL:
        if config.bit is None:
            return lambda cells: words(cells, starts) != 0
        masks = np.array([1 << (place.config.bit or 0) for place in places], np.uint16)
        return lambda cells: (words(cells, starts) & masks) != 0
    if type in (RegisterType.INT8, RegisterType.UINT8):
        return lambda cells: words(cells, starts).astype(np.uint8).view(type.value)
    # the value is little-endian whatever the host and the device are
    dtype = np.dtype(type.value).newbyteorder("<")
    if config.sign == "magnitude":
        dtype = np.dtype(f"<u{dtype.itemsize}")
    if (sent := _sent_as(places, dtype)) is not None:
        count, offset = len(places), 2 * places[0].start
        return lambda cells: np.frombuffer(cells.raw, sent, count, offset).astype(dtype)
    offsets = np.arange(config.words, dtype=np.intp)
    index = np.array(
        [place.start + (offsets if place.config.swaps_words else offsets[::-1]) for place in places], np.intp
    ).reshape(-1)
    return lambda cells: words(cells, index).view(dtype)


def _sent_as(places: Sequence[Place], dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """How numpy reads numbers of a kind where they are; None if they are not neighbours, or it cannot."""
    words = dtype.itemsize // 2
    first = places[0].start
    if any(place.start != first + number * words for number, place in enumerate(places)):
        return None
    low_byte_first = places[0].config.swaps_bytes  # which is one of a kind
    if words > 1 and any(place.config.swaps_words != low_byte_first for place in places):
        return None
    return dtype if low_byte_first else dtype.newbyteorder(">")


def _sign_magnitude(numbers: Columns) -> Columns:
    """The highest bit is the sign, the others are the amount: int64[n] from unsigned numbers."""
    bits = 8 * numbers.dtype.itemsize
    amount = (numbers & numbers.dtype.type((1 << bits - 1) - 1)).astype(np.int64)
    signed: Columns = np.where(numbers >> numbers.dtype.type(bits - 1) != 0, -amount, amount)
    return signed


def _invalid(places: Sequence[Place], type: RegisterType) -> Callable[[Columns], npt.NDArray[np.bool_]]:
    """Finds the special numbers of each point; integers are compared by their bits, so that -1 is 0xFFFF."""
    most = max(len(place.config.invalid) for place in places)
    rows = [
        (*place.config.invalid, *[place.config.invalid[0]] * (most - len(place.config.invalid))) for place in places
    ]
    if type.value.startswith("float"):
        wanted = np.array(rows, np.dtype(type.value))
        nan = np.isnan(wanted)
        return lambda found: np.any((found[:, None] == wanted) | (np.isnan(found)[:, None] & nan), axis=1)
    bits = 8 * np.dtype(type.value).itemsize
    unsigned = np.dtype(f"<u{bits // 8}")
    patterns = np.array([[int(number) % (1 << bits) for number in row] for row in rows], np.uint64).astype(unsigned)

    def find(found: Columns) -> npt.NDArray[np.bool_]:
        matches: npt.NDArray[np.bool_] = (found.view(unsigned)[:, None] == patterns).any(axis=1)
        return matches

    return find


_MANY: Final = 500
_LOW_FIRST: Final = np.dtype("<u2")
_GATHERED = frozenset(RegisterType) - {
    RegisterType.BCD,
    RegisterType.STRING,
    RegisterType.BYTES,
    RegisterType.TIMESTAMP,
}
