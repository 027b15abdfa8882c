"""A hole: what one gap, or several that are the same, left of a device's points, in columns. Pure.

A window lies between two live readings, both excluded: the last one before the gap and the first one after it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

UNHEARD: Final = int(np.iinfo(np.int64).max)
"""the end of a window whose point has not been heard again"""
QUIET_S: Final = 5.0
"""after a gap, so long without a point that is heard for the first time: those that are silent have not changed"""
TICK_NS: Final = 100
"""the resolution of a server's times"""


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
        self._newest: dict[int, tuple[int, set[Hashable]]] = {}
        """by row: the newest time of what has come from history, and what of it has that time"""
        self.asked = np.zeros(len(points), np.bool_)
        """the server's history was asked"""
        self.heard_before = np.ones(len(points), np.bool_)
        """whether `low` is the time of a live reading, and not only as far as the log knows"""
        self.claims: list[Claim] = []
        self.collecting = True
        """live readings still show where windows end"""
        self.unheard = bool((high == UNHEARD).any())
        """points have not been heard again"""
        self.renewal = False
        """its windows are of points that another subscription than before sends now; each begins when it is heard"""
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

    def awaits(self, points: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which of these it is still to hear of."""
        if not (self.collecting and self.unheard):
            return np.zeros(len(points), np.bool_)
        return np.isin(points, self.points[self.high == UNHEARD])

    def admit(self, points: npt.NDArray[Any], before: npt.NDArray[np.int64]) -> bool:
        """Let windows of these points begin now, which have none so far; False if one has."""
        rows = np.searchsorted(self.points, points)
        if self.first[rows].any():
            return False
        self.low[rows] = self.first[rows] = before
        self.high[rows] = UNHEARD
        self.unheard = True
        return True

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
        if self.unheard:
            return now - self._heard_at >= QUIET_S
        return not self.renewal or now - self._heard_at >= least_s

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

    def leave(self, points: npt.NDArray[np.int64]) -> list[Claim]:
        """These points are interrupted once more: where they were not heard in between, the next hole has them.

        Returns the gaps that it fills with that.
        """
        rows = np.flatnonzero(np.isin(self.points, points) & (self.high == UNHEARD))
        self.high[rows] = self.low[rows]
        self.unheard = bool((self.high == UNHEARD).any())
        left = frozenset(self.points[rows[self.heard_before[rows]]].tolist())
        claims = (claim._replace(points=left if claim.points is None else left & claim.points) for claim in self.claims)
        return [claim for claim in claims if claim.points]

    def came(self, row: int, time: int, readings: Iterable[Hashable], count: int) -> None:
        """So many readings of a point have come from history, up to `time`, which these of them have."""
        before, known = self._newest.get(row, (0, set()))
        self._newest[row] = time, {*readings, *(known if before == time else ())}
        self.low[row] = time
        self.readings[row] += count

    def known_at_low(self, row: int) -> set[Hashable] | None:
        """What came from history with the very time `low`; None where `low` is the time of a live reading.

        Others may follow with the same time: archives keep whole seconds, and pages end anywhere.
        """
        time, known = self._newest.get(row, (0, None))
        return known if time == self.low[row] else None

    def open_rows(self) -> npt.NDArray[np.int64]:
        """Where something that a gap claims may still be missing."""
        claimed = np.zeros(len(self.points), np.bool_)
        for claim in self.claims:
            claimed[self.rows_of(claim)] = True
        # Room for a time of the server's resolution between both ends.
        return np.flatnonzero(claimed & (self.high - self.low > TICK_NS))

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
