"""Which readings are missing, as a window of source time per point: what a server's history is asked for.

Gaps are told in the gateway's time, history is kept in the server's, and the two clocks may differ. So a window is made
of live readings alone: it lies between the last one before the gap and the first one after it, both excluded, and holds
whatever the clocks show. Everything is in columns; while no gap is open an offer costs a few numpy calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.history.holes import TICK_NS, UNHEARD, Claim, Hole
from gateway.contract import Basis, Batch, Clock, Filled, Flag, Gap, OpenGap, Origin, Receipt, Remembered, Sink

_logger = logging.getLogger(__name__)

MOST_HOLES: Final = 16
"""gaps of the device that may wait; of more the oldest stay as they are"""
MOST_OVERFLOWS: Final = 20_000
"""gaps of single points that may wait"""
_LEAST_S: Final = 5.0
"""after a gap, besides two publishing intervals: by then the engine has said whether the server's queues bridged it,
and an archive that is some seconds behind has its last readings too"""
_MOST_SUBSCRIPTIONS: Final = 1000
_UNCLAIMED_S: Final = 600.0
"""how long a hole waits for a gap that claims it"""
_OVERFLOW: Final = "overflow"
_SUBSCRIPTION_LOST: Final = "subscription-lost"


class _Overflow(NamedTuple):
    point: int
    low: int
    high: int
    claim: Claim


class _Newest(NamedTuple):
    """The newest offer, and what was known before it."""

    received: int
    """ns since the epoch, gateway clock"""
    parts: tuple[tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]], ...]
    """of each batch the points, their times, and their last times before"""


class GapLedger:
    """One device's holes, and the last source time of each of its points. It outlives connections."""

    def __init__(self, device: str, points: Iterable[int], publishing: Iterable[float], clock: Clock) -> None:
        """`publishing`: the intervals of the device's subscriptions, seconds."""
        intervals = list(publishing)
        self._device = device
        self._clock = clock
        self._points = np.array(sorted(points), np.int64)
        # After a crash the log tells only how far the device came, and a slow subscription may be further behind.
        self._spread_ns = round((max(intervals) - min(intervals)) * 1e9)
        self._least_s = _LEAST_S + 2 * max(intervals)
        self._last = np.zeros(int(self._points[-1]) + 1, np.int64)
        self._newest = _Newest(0, ())
        self._holes: list[Hole] = []
        self._overflows: list[_Overflow] = []
        self._subscriptions: dict[tuple[str, int], int] = {}
        self._sender = np.zeros(len(self._last), np.int64)
        """the number in `_subscriptions` of who sent the point last, 0 = nobody yet"""
        self._numbers = itertools.count(1)
        self._broken: tuple[str, Hole] | None = None
        """the newest outage's id and its hole"""
        self._overfull = False
        self.changed = asyncio.Event()
        """set when there is something new to look at"""

    # What happens

    def watch(self, sink: Sink) -> WatchedSink:
        """A sink that passes everything on and lets the ledger see it."""
        return WatchedSink(sink, self)

    def offered(self, batches: Sequence[Batch], origin: Origin | None, ended: OpenGap | None) -> None:
        """Live readings; `ended`: the outage that they have ended."""
        heard = list(filter(None, (_timed(batch, origin) for batch in batches)))
        received = batches[0].received_time
        if ended is not None:
            self._resume(ended, received)
        if origin is not None:
            self._renewed(heard, self._number(origin), received)
        parts, now = [], self._now()
        for points, times in heard:
            parts.append((points, times, self._last[points]))
            np.maximum.at(self._last, points, times)
            for hole in self._holes:
                if hole.collecting and hole.unheard:
                    hole.hear(points, times, now)
        self._newest = _Newest(received, tuple(parts))

    def lost(self, gap: Gap, id: str) -> None:
        """A gap has been told, no later than right after the offer that ended it."""
        claim = Claim(id, gap.reason, gap.start, gap.end, frozenset(gap.points) or None)
        if gap.reason == _OVERFLOW:
            self._overflow(gap, claim)
        elif gap.reason != _SUBSCRIPTION_LOST or not self._join(claim):
            self._between(gap, claim)
        self.changed.set()

    def filled(self, filled: Filled) -> None:
        """A gap was filled from the server's queues."""
        for hole in self._holes:
            hole.give_up(filled.gap, filled.points)

    # What the backfill asks for

    def due(self) -> Hole | None:
        """The oldest hole whose windows are known."""
        now = self._now()
        self._holes = [hole for hole in self._holes if hole.claims or hole.age_s(now) < _UNCLAIMED_S]
        self._gather()
        for hole in self._holes:
            if hole.claims and hole.settled(self._least_s, now):
                if hole.collecting:
                    points = hole.points[capped := hole.close()]
                    # The hole has them now, up to its end.
                    self._last[points] = np.maximum(self._last[points], hole.high[capped] - TICK_NS)
                return hole
        return None

    @property
    def expecting(self) -> bool:
        """Whether a hole may be due soon without any further sign."""
        return bool(self._overflows) or any(hole.collecting and hole.claims for hole in self._holes)

    def done(self, hole: Hole) -> None:
        """Nothing more will be asked for this one, unless another gap claims it."""
        hole.claims = []
        self._holes = [other for other in self._holes if other is not hole]
        if not self._holes and not self._overflows:
            self._overfull = False

    # Windows

    def _resume(self, ended: OpenGap, received: int) -> None:
        """Live readings come again after an outage: windows begin at the last ones before."""
        if self._broken is not None and self._broken[0] == ended.id:
            return  # two offers were under way when the outage ended
        hole = self._open(self._points, self._last[self._points], ended.start)
        hole.resumed = received
        hole.claims.append(Claim(ended.id, ended.reason, ended.start, received, None))
        self._broken = ended.id, hole
        self.changed.set()

    def _number(self, origin: Origin) -> int:
        subscription = origin[:2]
        if subscription not in self._subscriptions:
            if len(self._subscriptions) == _MOST_SUBSCRIPTIONS:
                self._subscriptions.clear()  # one that is met again opens windows that no gap claims
            self._subscriptions[subscription] = next(self._numbers)
        return self._subscriptions[subscription]

    def _renewed(
        self, heard: Sequence[tuple[npt.NDArray[Any], npt.NDArray[np.int64]]], number: int, received: int
    ) -> None:
        """Points that another subscription sent before: the gap in between is told when all of them are made."""
        for points, _ in heard:
            before = self._sender[points]
            if (before == number).all():
                continue
            new = (before != number) & (before != 0)
            for hole in self._holes:
                new &= ~hole.awaits(points)
            self._sender[points] = number
            changed = np.unique(points[new])
            if not len(changed):
                continue
            renewals = [hole for hole in self._holes if hole.renewal and hole.collecting]
            if not any(hole.admit(changed, self._last[changed]) for hole in renewals[-1:]):
                none = np.zeros(len(self._points), np.int64)
                hole = Hole(self._points, none, none.copy(), self._now())
                hole.renewal, hole.resumed = True, received
                hole.admit(changed, self._last[changed])
                self._add(hole)

    def _join(self, claim: Claim) -> bool:
        """Where a subscription took the place of a lost one, its points have windows already."""
        if claim.start is None:
            return False
        renewals = [hole for hole in self._holes if hole.renewal and hole.resumed >= claim.start]
        wanted = claim.points
        for hole in renewals:
            rows = hole.rows_of(claim)
            points = frozenset(hole.points[rows[hole.first[rows] > 0]].tolist())
            if points:
                hole.claims.append(claim._replace(points=points))
                wanted = (frozenset(self._points.tolist()) if wanted is None else wanted) - points
        joined = wanted is not claim.points
        if self._broken is not None and self._broken[1].resumed >= claim.start and (wanted is None or wanted):
            hole = self._broken[1]
            hole.claims.append(claim._replace(points=wanted))
            if all(other is not hole for other in self._holes):
                self._holes.append(hole)
            joined = True
        return joined

    def _between(self, gap: Gap, claim: Claim) -> None:
        """Something between two offers is missing: the newest one is already the first after the gap, or is not."""
        points = np.array(sorted(gap.points), np.int64) if gap.points else self._points
        parts = self._newest.parts if self._newest.received >= gap.end else ()
        before = self._last.copy()
        for heard, _, last in reversed(parts):
            before[heard] = last
        hole = self._open(points, before[points], gap.start)
        hole.claims.append(claim)
        for heard, times, _ in parts:
            hole.hear(heard, times, self._now())

    def _open(self, points: npt.NDArray[np.int64], before: npt.NDArray[np.int64], start: int | None) -> Hole:
        """A hole that begins at `before`; for points that were never heard at `start`, as far as the log knows."""
        heard = before > 0
        if start is not None:
            before = np.where(before > 0, before, start - self._spread_ns)
        claims = [claim for hole in self._holes if hole.collecting for claim in hole.leave(points)]
        made = Hole(points, before, np.where(before > 0, UNHEARD, before), self._now())
        made.heard_before, made.claims = heard, claims
        self._add(made)
        return made

    def _add(self, hole: Hole) -> None:
        self._holes.append(hole)
        if len(self._holes) > MOST_HOLES:
            self._holes.pop(0)
            self._tell_overfull()

    def _overflow(self, gap: Gap, claim: Claim) -> None:
        """The server's queue of a point was too short: both neighbours are known."""
        for point in gap.points:
            for hole in self._holes:
                if hole.misses(point, gap.start, gap.end):
                    hole.claims.append(claim._replace(points=frozenset((point,))))
                    break
            else:
                self._overflows.append(_Overflow(point, gap.start, gap.end, claim))
        if len(self._overflows) > MOST_OVERFLOWS:
            del self._overflows[:-MOST_OVERFLOWS]
            self._tell_overfull()

    def _gather(self) -> None:
        """Make one hole of waiting overflows, each point once; later ones of a point follow in later holes."""
        if not self._overflows or any(hole.claims for hole in self._holes):
            return
        chosen: dict[int, _Overflow] = {}
        self._overflows = [each for each in self._overflows if chosen.setdefault(each.point, each) is not each]
        rows = [chosen[point] for point in sorted(chosen)]
        points, low, high = (np.array([row[at] for row in rows], np.int64) for at in range(3))
        hole = Hole(points, low, high, self._now())
        hole.collecting = False
        of: dict[str, set[int]] = {}
        for row in rows:
            of.setdefault(row.claim.id, set()).add(row.point)
        claims = {row.claim.id: row.claim for row in rows}
        hole.claims = [claim._replace(points=frozenset(of[id])) for id, claim in claims.items()]
        self._holes.append(hole)

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _tell_overfull(self) -> None:
        if not self._overfull:
            self._overfull = True
            _logger.warning(
                "%s: more gaps than can wait to be filled from the server's history; the oldest stay as they are. Look "
                "at what makes them: the link, or queues that are too short",
                self._device,
            )


def _timed(batch: Batch, origin: Origin | None) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None:
    """Points and times of the readings whose times are their own; None if there are none."""
    timed = batch.basis != Basis.GATEWAY
    if origin is None:
        # What was read after an outage because it stood still has the server's time: a statement of now.
        timed &= ((batch.flags & Flag.INITIAL) == 0) | (batch.basis == Basis.SOURCE)
    if timed.all():
        return batch.points, batch.source_time
    return (batch.points[timed], batch.source_time[timed]) if timed.any() else None


class WatchedSink:
    """A device's sink; implements `gateway.contract.Sink`."""

    def __init__(self, sink: Sink, ledger: GapLedger) -> None:
        self._sink = sink
        self._ledger = ledger

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> Receipt:
        """Pass on live readings."""
        outage = self._sink.outage()
        receipt = await self._sink.offer(batches, origin)
        ended = outage is not None and self._sink.outage() is None
        self._ledger.offered(batches, origin, outage if ended else None)
        return receipt

    @property
    def commit_s(self) -> float:
        """See `Sink.commit_s`."""
        return self._sink.commit_s

    def online(self) -> None:
        """See `Sink.online`."""
        self._sink.online()

    def degraded(self, why: str | None) -> None:
        """See `Sink.degraded`."""
        self._sink.degraded(why)

    def gap(self, gap: Gap) -> str:
        """Pass on a gap."""
        id = self._sink.gap(gap)
        self._ledger.lost(gap, id)
        return id

    def outage(self) -> OpenGap | None:
        """See `Sink.outage`."""
        return self._sink.outage()

    def filled(self, filled: Filled) -> None:
        """Pass on that a gap was bridged."""
        self._sink.filled(filled)
        self._ledger.filled(filled)

    async def remember(self, note: Mapping[str, Any]) -> Receipt:
        """See `Sink.remember`."""
        return await self._sink.remember(note)

    def remembered(self) -> Remembered | None:
        """See `Sink.remembered`."""
        return self._sink.remembered()

    def describe(self, enumerations: Mapping[int, Mapping[int, str]]) -> None:
        """See `Sink.describe`."""
        self._sink.describe(enumerations)
