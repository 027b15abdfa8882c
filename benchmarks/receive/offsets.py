"""Exact account of offsets: what came, what came twice, what is missing. Pure."""

from __future__ import annotations

from bisect import bisect_right


class Offsets:
    """The offsets of one series (stream, device) as sorted ranges that do not touch.

    Messages come almost in order, so there are few ranges at any time and `add` is cheap.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.received = 0
        """distinct offsets"""
        self.duplicates = 0

    def add(self, n: int, count: int) -> bool:
        """Record `count` offsets from `n` on; True if all were new."""
        end = n + count
        # The ranges that touch or overlap [n, end) are first ... last - 1
        last = bisect_right(self._starts, end)
        first = last
        while first > 0 and self._ends[first - 1] >= n:
            first -= 1
        known = sum(max(0, min(end, self._ends[k]) - max(n, self._starts[k])) for k in range(first, last))
        if first < last:
            n = min(n, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [n]
        self._ends[first:last] = [end]
        self.received += count - known
        self.duplicates += known
        return known == 0

    @property
    def first(self) -> int:
        """The lowest offset seen, 0 when there is none."""
        return self._starts[0] if self._starts else 0

    @property
    def next(self) -> int:
        """One more than the highest offset seen."""
        return self._ends[-1] if self._ends else 0

    @property
    def missing(self) -> int:
        """Offsets below the highest one that never came; a series begins at 0."""
        return self.next - self.received
