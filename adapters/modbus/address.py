"""Addresses as an engineer writes them: "holding 0" counts from 0 as the protocol does, "modicon 40001" from 1.

MODBUS Application Protocol V1.1b3, 4.4: the data model counts each table from 1, the PDU from 0. A bare number does
not say which, and every manual chooses differently: it is refused.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, Final, NamedTuple


class Table(IntEnum):
    """A device's four tables; the number is the function code that reads it (Application Protocol V1.1b3, 6.1-6.4)."""

    COIL = 1
    DISCRETE = 2
    HOLDING = 3
    INPUT = 4

    @property
    def is_bits(self) -> bool:
        """Whether the table's cells are single bits rather than 16-bit registers."""
        return self <= Table.DISCRETE


class Address(NamedTuple):
    """A cell: its table and its address in the PDU, counted from 0."""

    table: Table
    offset: int

    def __str__(self) -> str:
        return f"{self.table.name.lower()} {self.offset}"


class CellRange(NamedTuple):
    """Cells of one table, from `first` to `last`, both included."""

    table: Table
    first: int
    last: int

    def __str__(self) -> str:
        name = self.table.name.lower()
        return f"{name} {self.first}" if self.first == self.last else f"{name} {self.first}-{self.last}"

    def overlaps(self, other: CellRange) -> bool:
        """Whether they have a cell in common."""
        return self.table is other.table and self.first <= other.last and other.first <= self.last


CELLS: Final = 65536
"""cells of a table: PDU addresses are 16 bits wide"""
MOST_REGISTERS: Final = 125
"""in one request (Application Protocol V1.1b3, 6.3 and 6.4)"""
MOST_BITS: Final = 2000
"""in one request (Application Protocol V1.1b3, 6.1 and 6.2)"""

_NAMED = re.compile(r"(holding|input|coil|discrete)\s+([0-9]+)", re.IGNORECASE)
_RANGE = re.compile(r"(holding|input|coil|discrete)\s+(\d+)\s*(?:-\s*(\d+))?", re.IGNORECASE)
_MODICON = re.compile(r"modicon\s+([0-9]+)", re.IGNORECASE)
_MODICON_TABLES: Final = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}
_EXPECTED: Final = (
    'expected "holding 0", "input 0", "coil 0" or "discrete 0" (counted from 0 as in the protocol) '
    'or "modicon 40001" (counted from 1)'
)


def parse_address(text: Any) -> Address:
    """The cell that `text` names. Raises ValueError saying what was expected; a bare number gets both readings."""
    if isinstance(text, Address):
        return text
    if isinstance(text, bool) or not isinstance(text, int | str):
        raise ValueError(f"{_EXPECTED}, found {text!r}")
    if isinstance(text, int) or text.strip().isdecimal():
        raise ValueError(_both_readings(str(text).strip()))
    if match := _NAMED.fullmatch(text.strip()):
        offset = int(match[2])
        if offset >= CELLS:
            raise ValueError(f"{text!r}: addresses go from 0 to {CELLS - 1}")
        return Address(Table[match[1].upper()], offset)
    if match := _MODICON.fullmatch(text.strip()):
        return _parse_modicon(match[1])
    raise ValueError(f"{_EXPECTED}, found {text!r}")


def parse_range(text: Any) -> CellRange:
    """ "holding 40-49" or "coil 5". Raises ValueError."""
    if isinstance(text, CellRange):
        return text
    match = _RANGE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"expected a range such as 'holding 0-99' or 'coil 5', found {text!r}")
    first = int(match[2])
    last = int(match[3]) if match[3] else first
    if last < first or last >= CELLS:
        raise ValueError(f"{text!r}: addresses go up, from 0 to {CELLS - 1}")
    return CellRange(Table[match[1].upper()], first, last)


def _parse_modicon(digits: str) -> Address:
    if len(digits) not in (5, 6) or digits[0] not in _MODICON_TABLES:
        raise ValueError(
            f"modicon {digits}: expected five or six digits, the first being 0 (coil), 1 (discrete input), 3 (input "
            "register) or 4 (holding register), e.g. modicon 40001 or modicon 400001"
        )
    number = int(digits[1:])
    if not 1 <= number <= CELLS:
        raise ValueError(f"modicon {digits}: the digits after the first count from 1 to {CELLS}")
    return Address(_MODICON_TABLES[digits[0]], number - 1)


def _both_readings(digits: str) -> str:
    """Spell out what a bare number can mean, and what to write for each."""
    try:
        modicon = _parse_modicon(digits)
    except ValueError:
        number = int(digits)
        below = f'"holding {number - 1}" if it counts from 1' if number else "nothing else, since it is 0"
        return (
            f'{digits} alone can be read in two ways: write "holding {number}" (or input, coil, discrete) if the '
            f"manual counts from 0 as the protocol does, {below}"
        )
    return (
        f'{digits} alone can be read in two ways: write "modicon {digits}" if the manual counts from 1 with the table '
        f'as first digit (it is then "{modicon}"), or "{modicon.table.name.lower()} {int(digits)}" if it is the '
        "address in the protocol, counted from 0"
    )
