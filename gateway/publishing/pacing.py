"""Pace: a token bucket for the bandwidth cap and a back-off with full jitter. Pure."""

from __future__ import annotations

import random


class Bucket:
    """Bytes that may be sent now, refilled at a constant rate. A message may overdraw it; the next then waits."""

    def __init__(self, rate: int, now_ns: int) -> None:
        """`rate` in bytes per second; half a second's worth may be sent at once."""
        self._rate = rate
        self._most = rate / 2
        self._level = self._most
        self._then_ns = now_ns

    def wait_s(self, now_ns: int) -> float:
        """Seconds until something may be sent; 0 = now."""
        self._refill(now_ns)
        return 0.0 if self._level > 0 else (1 - self._level) / self._rate

    def take(self, nbytes: int, now_ns: int) -> None:
        """Count what is being sent."""
        self._refill(now_ns)
        self._level -= nbytes

    def _refill(self, now_ns: int) -> None:
        gained = max(0, now_ns - self._then_ns) / 1e9 * self._rate
        self._level = min(self._most, self._level + gained)
        self._then_ns = now_ns


class Backoff:
    """Seconds to wait before the next attempt: uniform up to a ceiling that doubles with each attempt."""

    def __init__(self, random: random.Random, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._random = random
        self._first_s = first_s
        self._most_s = most_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next delay; a tenth of the ceiling at least, so that no attempt follows at once."""
        ceiling = self._ceiling_s
        self._ceiling_s = min(self._most_s, ceiling * 2)
        return max(ceiling / 10, self._random.uniform(0, ceiling))

    def reset(self) -> None:
        """Begin anew: it works."""
        self._ceiling_s = self._first_s
