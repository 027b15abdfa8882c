"""Which readings are missing, as a window of source time per point: what a server's history is asked for.

Gaps are told in the gateway's time, history is kept in the server's, and the two clocks may differ. So a window is made
of live readings alone: it lies between the last one before the gap and the first one after it, both excluded, and holds
whatever the clocks show. Everything is in columns; while no gap is open an offer costs a few numpy calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract import Basis, Batch, Clock, Filled, Flag, Gap, OpenGap, Origin, Receipt, Remembered, Sink

_logger = logging.getLogger(__name__)

UNHEARD: Final = int(np.iinfo(np.int64).max)
"""the end of a window whose point has not been heard again"""
MOST_HOLES: Final = 16
"""gaps of the device that may wait; of more the oldest stay as they are"""
MOST_OVERFLOWS: Final = 20_000
"""gaps of single points that may wait"""
QUIET_S: Final = 5.0
"""after a gap, so long without a point that is heard for the first time: those that are silent have not changed"""
_LEAST_S: Final = 5.0
"""after a gap, besides two publishing intervals: by then the engine has said whether the server's queues bridged it,
and an archive that is some seconds behind has its last readings too"""
_MOST_SUBSCRIPTIONS: Final = 1000
_UNCLAIMED_S: Final = 600.0
"""how long a hole waits for a gap that claims it"""
_OVERFLOW: Final = "overflow"
_SUBSCRIPTION_LOST: Final = "subscription-lost"
_TICK_NS: Final = 100


class Claim(NamedTuple):
    """A gap that was told, and that a hole may fill."""

    id: str
    reason: str
    start: int | None
    """ns since the epoch, gateway clock; None = unknown"""
    end: int
    """ns since the epoch, gateway clock"""
    points: frozenset[int] | None
    """None = every point of the hole"""


class Hole:
    """Windows of points in which readings are missing. Columns of the same length; times in ns since the epoch."""

    def __init__(
        self, points: npt.NDArray[np.int64], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], now: float
    ) -> None:
        """`points`: ascending, each once; `now`, here and below: monotonic seconds."""
        self.points = points
        self.low = low
        """readings after this are missing; it moves on as they come"""
        self.high = high
        """readings from here on are there; `UNHEARD` = not known yet. Nothing is missing where high <= low"""
        self.first = low.copy()
        """`low` as it was in the beginning"""
        self.readings = np.zeros(len(points), np.int64)
        """how many have come"""
        self.asked = np.zeros(len(points), np.bool_)
        """the server's history was asked"""
        self.heard_before = np.ones(len(points), np.bool_)
        """whether `low` is the time of a live reading, and not only as far as the log knows"""
        self.claims: list[Claim] = []
        self.collecting = True
        """live readings still show where windows end"""
        self.unheard = bool((high == UNHEARD).any())
        """points have not been heard again"""
        self.resumed = 0
        """ns since the epoch, gateway clock: when live readings came again"""
        self._opened_at = now
        self._heard_at = self._opened_at
        """when a point was last heard for the first time"""
        self._cap: int | None = None
        """the earliest time among the first readings after the gap"""

    def age_s(self, now: float) -> float:
        """Seconds since it was opened."""
        return now - self._opened_at

    def awaits(self, points: npt.NDArray[Any]) -> bool:
        """Whether it is still to hear of any of these."""
        return self.collecting and bool((self.high[np.isin(self.points, points)] == UNHEARD).any())

    def hear(self, points: npt.NDArray[Any], times: npt.NDArray[np.int64], now: float) -> None:
        """Live readings after the gap."""
        rows = np.minimum(np.searchsorted(self.points, points), len(self.points) - 1)
        ours = self.points[rows] == points
        if not ours.all():
            rows, times = rows[ours], times[ours]
        if not len(rows):
            return
        if self._cap is None:
            self._cap = int(times.min())
        if (self.high[rows] == UNHEARD).any():
            self._heard_at = now
        np.minimum.at(self.high, rows, times)
        self.unheard = bool((self.high == UNHEARD).any())

    def settled(self, least_s: float, now: float) -> bool:
        """Whether every window has its end, or waiting longer would not help."""
        if not self.collecting:
            return True
        if (self.unheard and self._cap is None) or now - self._opened_at < least_s:
            return False
        return not self.unheard or now - self._heard_at >= QUIET_S

    def close(self) -> npt.NDArray[np.int64]:
        """Windows end here. A point that has not been heard may miss readings up to where others came again.

        Returns the rows of those; a point that was not heard before either is left out.
        """
        self.collecting = False
        unheard = self.high == UNHEARD
        capped = np.flatnonzero(unheard & self.heard_before)
        self.high[unheard] = self.low[unheard]
        if self._cap is not None:
            self.high[capped] = np.maximum(self.low[capped], self._cap)
        return capped

    def leave(self, points: npt.NDArray[np.int64]) -> None:
        """These points are interrupted once more: where they were not heard in between, the next hole has them."""
        rows = np.flatnonzero(np.isin(self.points, points) & (self.high == UNHEARD))
        self.high[rows] = self.low[rows]
        self.unheard = bool((self.high == UNHEARD).any())

    def open_rows(self) -> npt.NDArray[np.int64]:
        """Where something that a gap claims may still be missing."""
        claimed = np.zeros(len(self.points), np.bool_)
        for claim in self.claims:
            claimed[self.rows_of(claim)] = True
        # Room for a time of the server's resolution between both ends.
        return np.flatnonzero(claimed & (self.high - self.low > _TICK_NS))

    def rows_of(self, claim: Claim) -> npt.NDArray[np.int64]:
        """The rows of a gap's points."""
        if claim.points is None:
            return np.arange(len(self.points))
        return np.flatnonzero(np.isin(self.points, list(claim.points)))

    def misses(self, point: int, start: int, end: int) -> bool:
        """Whether the point's window has a part between these times."""
        row = int(np.searchsorted(self.points, point))
        if row == len(self.points) or self.points[row] != point:
            return False
        return bool(self.low[row] < end and start < self.high[row])

    def give_up(self, id: str, points: Iterable[int]) -> None:
        """A gap, or these points of it, has been filled in another way."""
        filled = frozenset(points)
        claims = []
        for claim in self.claims:
            if claim.id != id:
                claims.append(claim)
            elif filled:
                left = frozenset(self.points[self.rows_of(claim)].tolist()) - filled
                claims.append(claim._replace(points=left))
        self.claims = [claim for claim in claims if claim.points is None or claim.points]


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
        self._subscriptions: set[tuple[str, int]] = set()
        self._broken: tuple[str | None, Hole] | None = None
        """the newest hole between two stretches of live readings, and the id of its outage"""
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
        if origin is not None and origin[:2] not in self._subscriptions:
            if len(self._subscriptions) == _MOST_SUBSCRIPTIONS:
                self._subscriptions.clear()  # one that is met again opens a hole that no gap claims
            self._subscriptions.add(origin[:2])
            if heard and not any(hole.awaits(points) for hole in self._holes for points, _ in heard):
                self._resume(None, received)
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
                    self._last[points] = np.maximum(self._last[points], hole.high[capped] - _TICK_NS)
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

    def _resume(self, ended: OpenGap | None, received: int) -> None:
        """Live readings come again, after an outage or from a new subscription: windows begin at the last ones."""
        if ended is not None and self._broken is not None and self._broken[0] == ended.id:
            return  # two offers were under way when the outage ended
        hole = self._open(self._points, self._last[self._points], None if ended is None else ended.start)
        hole.resumed = received
        if ended is not None:
            hole.claims.append(Claim(ended.id, ended.reason, ended.start, received, None))
        self._broken = None if ended is None else ended.id, hole
        self.changed.set()

    def _join(self, claim: Claim) -> bool:
        """The subscription that took the place of a lost one has its hole already, or its device's outage has."""
        if self._broken is None or claim.start is None or self._broken[1].resumed < claim.start:
            return False
        hole = self._broken[1]
        hole.claims.append(claim)
        if all(other is not hole for other in self._holes):
            self._holes.append(hole)
        return True

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
        for hole in self._holes:
            if hole.collecting:
                hole.leave(points)
        # Without claims a gap may still come; but only the newest can be meant.
        self._holes = [hole for hole in self._holes if hole.claims]
        made = Hole(points, before, np.where(before > 0, UNHEARD, before), self._now())
        made.heard_before = heard
        self._holes.append(made)
        if len(self._holes) > MOST_HOLES:
            self._holes.pop(0)
            self._tell_overfull()
        return made

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
