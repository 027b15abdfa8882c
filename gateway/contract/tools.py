"""What an adapter offers to an engineer at a terminal: looking at equipment from a URL alone, before any config exists.

An adapter type that has tools names the URL schemes they are for; a command finds them by the URL's scheme and knows
nothing of the protocol. Tools only read, keep to one connection and to a rate of requests, and leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from gateway.contract.adapter import AdapterType


@dataclass(frozen=True, slots=True)
class Target:
    """The equipment to look at, and how to get in."""

    url: str
    security: str = "None"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    allow_insecure_password: bool = False
    timeout_s: float = 5.0
    requests_per_s: float = 20.0
    """the most that the equipment is asked"""
    pki: str | None = None
    """folder of certificates, where it is not the usual one"""


@dataclass(frozen=True, slots=True)
class BrowseQuery:
    """What to look for."""

    root: str | None = None
    """address to begin at; None = where the equipment keeps its data"""
    path: str | None = None
    """names below the root, separated by "/", with * and ? in each and ** for any number of levels"""
    types: tuple[str, ...] = ()
    """only values of these types, by the protocol's names or by ours; empty = all"""
    depth: int | None = None
    """levels below the root; None = all"""
    everything: bool = False
    """also what the equipment says about itself"""
    values: bool = True
    """read current values as well"""
    limit: int = 50_000
    """stop after so many items"""


class Kind(StrEnum):
    """What an item is."""

    GROUP = "group"
    VALUE = "value"
    PROPERTY = "property"
    """a value that describes its parent and is not acquired"""


class Access(NamedTuple):
    """What the server lets this user do with a value."""

    read: bool
    write: bool


NO_ACCESS: Final = Access(False, False)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was found, or the answer to one address that was asked for."""

    address: str
    """as a device file writes it: stays right when the equipment is configured anew"""
    short: str
    """as people write it for a moment"""
    name: str
    """display name"""
    tag: str
    """the name under which the equipment knows it"""
    path: tuple[str, ...]
    """names of the groups from the root to this item; empty for the root and for what was asked for by address"""
    kind: Kind
    description: str | None = None
    type: str | None = None
    """the protocol's name of the type, with [] for arrays"""
    access: Access = NO_ACCESS
    value: Any = None
    """plain Python data: numbers, text, bool, lists, dicts; None = there is none"""
    status: int = 0
    """OPC UA status code, onto which every protocol maps"""
    status_text: str = "Good"
    source_ns: int | None = None
    """ns since the epoch, by the equipment's clock"""
    server_ns: int | None = None
    unit: str | None = None
    low: float | None = None
    """range that the equipment names for the value, in `unit`"""
    high: float | None = None
    point: Mapping[str, Any] | None = None
    """the protocol's own keys of this item as a point of a device file; None = it cannot be one"""


@dataclass(frozen=True, slots=True)
class Browsed:
    """What a browse found. Items come in tree order: each after its group."""

    items: tuple[Item, ...]
    device: Mapping[str, str]
    """what the equipment says about itself: product, manufacturer, version"""
    legend: Mapping[str, str]
    """what stands behind abbreviations in `Item.short`"""
    problems: tuple[str, ...]
    """what could not be looked at, in words; empty = the whole was seen"""
    requests: int
    """how many requests it took"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way into the equipment."""

    url: str
    """as the equipment calls itself; the address that answered may be another"""
    security: str
    """as a device file writes it"""
    logins: tuple[str, ...]
    server: str
    certificate: str | None
    """SHA-256 fingerprint of its certificate, hexadecimal"""


Progress = Callable[[int, int], None]
"""Called with (items so far, requests so far)"""


class Tools(Protocol):
    """Looking at equipment. Every verb that talks raises AdapterError, or ConfigError when the target is wrong.

    Four verbs: three questions, and `connection`, which answers without talking what only the adapter knows.
    """

    async def endpoints(self, target: Target) -> tuple[Endpoint, ...]:
        """The ways into the equipment; needs no login."""
        ...

    async def browse(self, target: Target, query: BrowseQuery, progress: Progress | None = None) -> Browsed:
        """What there is, with its current values."""
        ...

    async def read(self, target: Target, addresses: Sequence[str]) -> tuple[Item, ...]:
        """One item for each address, in their order; an address that cannot be read is an item with a bad status."""
        ...

    def connection(self, target: Target, password: str | None) -> dict[str, Any]:
        """The `connection` of a device file; `password` is what stands in it for the password."""
        ...


@runtime_checkable
class HasTools(AdapterType, Protocol):
    """An adapter type that has tools for URLs of these schemes."""

    schemes: tuple[str, ...]

    def tools(self) -> Tools:
        """Make them; the protocol library is imported here."""
        ...
