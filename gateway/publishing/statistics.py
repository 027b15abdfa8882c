"""What metrics and `status` show of a destination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from gateway.publishing.attempt import Progress
from gateway.publishing.books import Books
from gateway.publishing.outbox import Traffic
from gateway.publishing.replays import Shown
from gateway.publishing.window import Window


class Counts(NamedTuple):
    """One side of the account; `unbalanced` is accepted minus all the others and should be 0."""

    accepted: int = 0
    delivered: int = 0
    waiting: int = 0
    withheld: int = 0
    parked: int = 0
    dropped: Mapping[str, int] = {}
    unbalanced: int = 0


class Confirming(NamedTuple):
    """How it stands with a centre that is to confirm; counts since the process began but the first."""

    confirmed: int
    """readings that the centre said are stored, since the destination's start"""
    unconfirmed: int
    """messages that wait for its answer"""
    resent: int
    """messages that were sent again because it did not answer in time"""
    ignored: int
    """answers that named nothing that was waited for"""


class Condition(NamedTuple):
    """How a destination is."""

    state: str
    """connecting, online, holding, unconfirmed, refused, down or stopped"""
    since: int
    """ns since the epoch: when the state began"""
    reason: str
    """why, and what to do; empty when all is well"""
    broker: str
    """host:port of the broker that is connected; empty when none is"""


class Statistics(NamedTuple):
    """Counts since the destination's start; traffic since the process began."""

    state: str
    """connecting, online, holding, unconfirmed, refused, down or stopped"""
    since: int
    """ns since the epoch: when the state began"""
    reason: str
    """why, and what to do; empty when all is well"""
    broker: str
    """host:port of the broker that is connected; empty when none is"""
    total: Counts
    devices: Mapping[str, Counts]
    """per device, all streams together; events under _events"""
    messages: int
    nbytes: int
    """payload bytes handed to the broker"""
    acknowledged: int
    puback_seconds: float
    """sum over acknowledged messages"""
    in_flight: int
    in_flight_bytes: int
    backlog_segments: int
    """positions in the closed ranges: what the backlog lane still has before it"""
    replays: Shown
    delay_s: float | None
    """age of the newest reading of the last live message when it was delivered"""
    confirming: Confirming | None
    """None = nobody is to confirm but the broker"""


def collect(
    books: Books,
    replays: Shown,
    traffic: Traffic,
    progress: Progress,
    window: Window | None,
    condition: Condition,
) -> Statistics:
    """Put together what a publisher shows."""
    devices: dict[str, Counts] = {}
    total = Counts()
    confirmed = 0
    for series, account in books.ledger.accounts.items():
        counts = Counts(
            account.accepted,
            account.delivered,
            account.waiting,
            account.withheld,
            account.parked,
            account.dropped,
            account.difference,
        )
        devices[series.device] = _sum(devices.get(series.device, Counts()), counts)
        total = _sum(total, counts)
        confirmed += account.confirmed
    backlog = books.ledger.ranges.backlog
    return Statistics(
        *condition,
        total,
        devices,
        traffic.messages,
        traffic.nbytes,
        traffic.acknowledged,
        traffic.latency_ns / 1e9,
        0 if window is None else window.messages,
        0 if window is None else window.nbytes,
        sum((part.end or part.start) - part.start for part in backlog),
        replays,
        progress.delay_s,
        Confirming(confirmed, progress.unconfirmed, progress.resent, progress.ignored)
        if books.ledger.confirming
        else None,
    )


def _sum(first: Counts, second: Counts) -> Counts:
    return Counts(
        first.accepted + second.accepted,
        first.delivered + second.delivered,
        first.waiting + second.waiting,
        first.withheld + second.withheld,
        first.parked + second.parked,
        Counter(first.dropped) + Counter(second.dropped),
        first.unbalanced + second.unbalanced,
    )
