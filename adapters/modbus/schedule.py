"""When what is due: fixed rates on the monotonic clock. Pure."""

from __future__ import annotations

import heapq
import zlib
from typing import Generic, TypeVar

T = TypeVar("T")

WINDOW_NS = 10_000_000_000
"""over which the worst lateness is told"""
MOST_STAGGER_NS = 1_000_000_000
"""a slow point's first reading should not wait for long"""


def stagger_ns(device: str, period_ns: int) -> int:
    """How long after its start a device's first poll is due: spreads devices of one period, the same every time.

    Below the period and 1 s.
    """
    return zlib.crc32(device.encode()) * min(period_ns, MOST_STAGGER_NS) >> 32


class Schedule(Generic[T]):
    """Jobs by due time. A job is either waiting here or out with whoever took it, so it never overlaps itself.

    Times are ns of the monotonic clock.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, T, int]] = []
        self._count = 0

    def add(self, job: T, due_ns: int, period_ns: int) -> None:
        """Let `job` be due at `due_ns`; jobs due together come in the order in which they were added."""
        self._count += 1
        heapq.heappush(self._waiting, (due_ns, self._count, job, period_ns))

    def next_due_ns(self) -> int | None:
        """When the first job is due; None while all are out."""
        return self._waiting[0][0] if self._waiting else None

    def take(self, now_ns: int) -> tuple[T, int, int] | None:
        """The first job that is due, its due time and its period; None if none is."""
        if not self._waiting or self._waiting[0][0] > now_ns:
            return None
        due_ns, _, job, period_ns = heapq.heappop(self._waiting)
        return job, due_ns, period_ns

    def done(self, job: T, due_ns: int, period_ns: int, now_ns: int) -> int:
        """Take back a job that was due at `due_ns`; returns how many of its cycles were missed.

        The next cycle keeps to the base time. A cycle that is late is still run, unless the one after it has come due
        as well: then it is missed, so that cycles never bunch.
        """
        following = due_ns + period_ns
        missed = max(0, (now_ns - following) // period_ns)
        self.add(job, following + missed * period_ns, period_ns)
        return missed


class Lateness:
    """The worst lateness of the last `WINDOW_NS` or up to twice as long, in constant memory."""

    def __init__(self) -> None:
        self._since_ns = 0
        self._worst_ns = self._before_ns = 0

    def add(self, late_ns: int, now_ns: int) -> None:
        """Something was so late."""
        if now_ns - self._since_ns >= WINDOW_NS:
            self._turn(now_ns)
        self._worst_ns = max(self._worst_ns, late_ns)

    def worst_ns(self, now_ns: int) -> int:
        """0 where nothing was late, or nothing was at all."""
        self._turn(now_ns)
        return max(self._worst_ns, self._before_ns)

    def _turn(self, now_ns: int) -> None:
        age_ns = now_ns - self._since_ns
        if age_ns >= WINDOW_NS:
            self._before_ns = self._worst_ns if age_ns < 2 * WINDOW_NS else 0
            self._worst_ns, self._since_ns = 0, now_ns


class Pacer:
    """Spaces requests so that there are never more than `per_s` in a second; shared by all connections of a device."""

    def __init__(self, per_s: float) -> None:
        self._interval_ns = int(1e9 / per_s)
        self._next_ns = 0

    def reserve(self, now_ns: int) -> int:
        """Take the next place; returns how many ns to wait for it."""
        place = max(now_ns, self._next_ns)
        self._next_ns = place + self._interval_ns
        return place - now_ns
