"""The adapter contract: who may call what, and what each call promises.

An adapter is one async verb, `run`: connect, acquire, offer, until the link is lost (raise an `AdapterError`) or the
task is cancelled. The gateway's supervisor runs it, reports its state, backs off with jitter and runs it again; an
adapter keeps in itself what should survive such a round. Scaling, identifiers, storage and delivery are never an
adapter's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gateway.contract.batch import Batch
from gateway.contract.clock import Clock
from gateway.contract.config import DeviceConfig, PointConfig


class Origin(NamedTuple):
    """Where an offer comes from, so that a republished notification is recognised after a crash."""

    server: str
    subscription: int
    sequence: int


class Gap(NamedTuple):
    """Readings that the plant side lost: a server's queue overflowed, a sequence number never came."""

    points: tuple[int, ...]
    """permanent indexes; empty = the whole device"""
    start: int
    """ns since the epoch: last moment known to be covered"""
    end: int
    """ns since the epoch: first moment known to be covered again"""
    reason: str
    """a short word for metrics: "overflow", "sequence-gap", "subscription-lost" ..."""


class OpenGap(NamedTuple):
    """An outage of the device that the gateway has told of and that no data has ended yet."""

    id: str
    start: int | None
    """ns since the epoch: last moment known to be covered; None = unknown"""
    reason: str


class Filled(NamedTuple):
    """Readings of a gap that came after all: from the server's queues, or from its history."""

    gap: str
    """id of the gap"""
    start: int
    """ns since the epoch; the gap's own start where nothing is missing there"""
    end: int
    """ns since the epoch; the present where nothing is missing up to the gap's end"""
    readings: int | None
    """how many came; None where live data and recovered ones cannot be told apart"""
    points: tuple[int, ...] = ()
    """permanent indexes; empty = every point that the gap named"""


class Remembered(NamedTuple):
    """What an earlier process of this gateway left for a device."""

    note: Mapping[str, Any]
    """what its adapter last gave to `Sink.remember`"""
    origins: tuple[Origin, ...]
    """the newest origin that the log holds of each (server, subscription) which it offered after that note"""


class Receipt(Protocol):
    """What `offer` hands back."""

    async def durable(self) -> None:
        """Return once everything in the offer is committed to the log; only then acknowledge towards the plant."""
        ...


class Sink(Protocol):
    """The gateway as one device's adapter sees it."""

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> Receipt:
        """Hand over readings; returns when memory is granted, which is the back-pressure.

        What is offered together is never split over two segments of the log.
        """
        ...

    @property
    def commit_s(self) -> float:
        """Least time between the starts of two commits, seconds: how long receipts may take in good health."""
        ...

    def online(self) -> None:
        """Say that the link works: the device answers. Idempotent; call it again whenever data arrives after doubt."""
        ...

    def degraded(self, why: str | None) -> None:
        """The link works, but the device says or shows that it is not well; None = it is well again. Idempotent."""
        ...

    def gap(self, gap: Gap) -> str:
        """Report readings that were lost before they reached us; becomes a durable gap event. Returns the gap's id."""
        ...

    def outage(self) -> OpenGap | None:
        """The outage that the next data of the device will end; None while there is none."""
        ...

    def filled(self, filled: Filled) -> None:
        """Report that readings of a gap came after all; becomes a durable event, after the readings themselves."""
        ...

    async def remember(self, note: Mapping[str, Any]) -> Receipt:
        """Keep a JSON-able note in the log for the process that comes after a crash; it replaces the one before.

        At most 256 kB. It is durable before anything that is offered later.
        """
        ...

    def remembered(self) -> Remembered | None:
        """What the process before this one left; None where there is nothing, or the log broke off in between."""
        ...

    def describe(self, enumerations: Mapping[int, Mapping[int, str]]) -> None:
        """Tell what the numbers of enumerated points mean, by permanent index; it goes into the catalogue."""
        ...


class Adapter(Protocol):
    """One device's acquisition."""

    async def run(self, sink: Sink) -> None:
        """Connect, acquire and offer until cancelled; raise `AdapterError` when the link fails.

        On cancellation everything is closed (session, socket) within 2 s.
        """
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What an adapter knows of its device beside readings, for metrics. None = not known."""

    clock_offset_s: float | None = None
    """the device's clock minus ours, seconds"""
    bridged_s: float | None = None
    """the outage of the link that the device's own queues bridge, seconds"""
    lost_copies: int = 0
    """notifications that the server forgot before we had acknowledged them: a crash then would have lost them"""
    polls: int | None = None
    """cycles of polls since the adapter was built; None = it does not poll"""
    polls_missed: int = 0
    """cycles that were left out because the one before took longer than its period"""
    poll_late_s: float = 0.0
    """how much later than planned a cycle's first request was sent, seconds; the worst of the last 10 s or more"""
    timeouts: int = 0
    """requests that were not answered in time"""
    bad_replies: int = 0
    """replies that did not fit their request"""


@runtime_checkable
class HasFacts(Protocol):
    """Adapters that know more of their device than its readings."""

    def facts(self) -> Facts:
        """As of now; cheap, no I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A configured point with its permanent index."""

    index: int
    config: PointConfig


class AdapterType(Protocol):
    """What the entry point `edge_gateway.adapters` names: how to check a device file and how to build its adapter.

    Loading it must stay cheap; the protocol library is imported in `build`.
    """

    name: str
    device_model: type[DeviceConfig]
    """pydantic model of the whole device file: `DeviceConfig` plus the adapter's own keys"""

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        """Make the adapter from its checked config (a `device_model`); no I/O, raises nothing."""
        ...
