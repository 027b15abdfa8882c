"""Values that one gather decodes for all points of a kind: bits, integers, floats, numbers with a sign bit. Pure.

For each kind there is an array of word positions, least significant word first, so one gather and one view decode all
points of that kind, whatever their word order; byte order only decides which of two views of the same bytes is
gathered from. Registers travel most significant byte first (MODBUS Application Protocol V1.1b3, 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.modbus.point import ModbusPointConfig, RegisterType

Columns = npt.NDArray[Any]


class Cells(NamedTuple):
    """The joined replies of one cycle, seen in the ways that decoders need."""

    words: Columns
    """uint16[n]: registers, high byte sent first"""
    swapped: Columns
    """uint16[n]: the same with the low byte first"""
    bits: Columns
    """uint8[n] of 0 or 1"""
    raw: bytes
    """the registers' bytes as sent"""


class Place(NamedTuple):
    """A point of a kind: its config, and the first word or bit of it in the joined replies."""

    config: ModbusPointConfig
    start: int


class Gathered(NamedTuple):
    """Values of all points of a kind, and which of them are none because the device says so by a special number."""

    values: Columns
    invalid: npt.NDArray[np.bool_] | None


Gather = Callable[[Cells], Gathered]


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
    raw = _raw(places)
    invalid = _invalid(places, config.register_type) if config.invalid else None
    convert = _sign_magnitude if config.sign == "magnitude" else None

    def read(cells: Cells) -> Gathered:
        found = raw(cells)
        return Gathered(convert(found) if convert else found, invalid(found) if invalid else None)

    return read


def _raw(places: Sequence[Place]) -> Callable[[Cells], Columns]:
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
    # least significant word first: the value is then little-endian whatever the host and the device are
    offsets = np.arange(config.words, dtype=np.intp)
    index = np.array(
        [place.start + (offsets if place.config.swaps_words else offsets[::-1]) for place in places], np.intp
    ).reshape(-1)
    dtype = np.dtype(type.value).newbyteorder("<")
    if config.sign == "magnitude":
        dtype = np.dtype(f"<u{dtype.itemsize}")
    return lambda cells: words(cells, index).view(dtype)


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
_GATHERED = frozenset(RegisterType) - {
    RegisterType.BCD,
    RegisterType.STRING,
    RegisterType.BYTES,
    RegisterType.TIMESTAMP,
}
