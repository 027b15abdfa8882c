"""The adapter contract: who may call what, and what each call promises.

An adapter is one async verb, `run`: connect, acquire, offer, until the link is lost (raise an `AdapterError`) or the
task is cancelled. The gateway's supervisor runs it, reports its state, backs off with jitter and runs it again; an
adapter keeps in itself what should survive such a round. Scaling, identifiers, storage and delivery are never an
adapter's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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

    def online(self) -> None:
        """Say that the link works: the device answers. Idempotent; call it again whenever data arrives after doubt."""
        ...

    def gap(self, gap: Gap) -> None:
        """Report readings that were lost before they reached us; becomes a durable gap event."""
        ...


class Adapter(Protocol):
    """One device's acquisition."""

    async def run(self, sink: Sink) -> None:
        """Connect, acquire and offer until cancelled; raise `AdapterError` when the link fails.

        On cancellation everything is closed (session, socket) within 2 s.
        """
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
