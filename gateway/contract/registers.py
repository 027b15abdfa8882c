"""Tools for equipment that has registers and no names: one register in all its meanings, and what answers at all.

As in `tools`, everything works from a URL alone, only reads, and keeps to a rate of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gateway.contract.adapter import AdapterType


@dataclass(frozen=True, slots=True)
class Wire:
    """The way to the equipment."""

    url: str
    timeout_s: float | None = None
    """None = what a device file has"""
    requests_per_s: float = 10.0


class Hint(NamedTuple):
    """What the engineer knows of the value, in the unit of the point; None = nothing."""

    expected: float | None = None
    low: float | None = None
    high: float | None = None


class Meaning(NamedTuple):
    """What registers would be, taken for a type in an order."""

    type: str
    order: str
    value: Any
    """None = they are no value of this type"""
    scale: float
    """factor with which the value fits the hint; 1 without a hint"""
    rank: float | None
    """how far it is from the hint, 0 = exactly; None = it does not fit, or there is no hint"""
    keys: Mapping[str, Any]
    """keys of a point of a device file, beside its name"""


class Looked(NamedTuple):
    """One address that was looked at."""

    address: str
    raw: bytes
    """what the equipment sent, from this address on; empty = nothing"""
    problem: str | None
    """why there is nothing, in words"""
    meanings: tuple[Meaning, ...]
    """in the order of their rank, then as tables list them"""


@dataclass(frozen=True, slots=True)
class ScanQuery:
    """What may be asked. Nothing outside of it is."""

    stations: tuple[int, ...]
    ranges: tuple[str, ...]
    """such as "holding 0-99" """
    without: tuple[str, ...] = ()
    """what must not be read, in the same words: registers that reading clears, say"""
    only_master: bool = False
    """nobody else asks on this line"""


class Range(NamedTuple):
    """Cells that were read, or refused, together."""

    table: str
    first: int
    last: int


class Answering(NamedTuple):
    """A station that answers."""

    station: int
    readable: tuple[Range, ...]
    refused: tuple[Range, ...]
    unknown: tuple[Range, ...]
    """not answered, or not looked at because the scan ended"""


class Scanned(NamedTuple):
    """What a scan found."""

    stations: tuple[Answering, ...]
    silent: tuple[int, ...]
    requests: int


ScanProgress = Callable[[int, int], None]
"""Called with (station, requests so far)"""


class RegisterTools(Protocol):
    """Raises AdapterError, or ConfigError when what is asked for is wrong."""

    async def look(self, wire: Wire, station: int, addresses: Sequence[str], hint: Hint) -> tuple[Looked, ...]:
        """Read a few cells at each address and show what they would be in every type and order."""
        ...

    async def scan(self, wire: Wire, query: ScanQuery, progress: ScanProgress | None = None) -> Scanned:
        """Find out which stations answer, and which cells they let be read."""
        ...


@runtime_checkable
class HasRegisterTools(AdapterType, Protocol):
    """An adapter type that has such tools for URLs of these schemes."""

    schemes: tuple[str, ...]

    def register_tools(self) -> RegisterTools:
        """Make them; the protocol library is imported here."""
        ...
