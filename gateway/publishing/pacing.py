"""Pace: a token bucket for the bandwidth cap, and how carefully a connection begins. Pure."""

from __future__ import annotations


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


LASTED_NS = 60_000_000_000
"""a connection that lived so long was not cut for something that it began with"""
MOST_ALONE = 256


def next_alone(before: int, under_way: int, lived_ns: int) -> int:
    """How many messages of the next connection go one by one, after one that was cut with messages under way.

    Mosquitto cuts the connection at what it refuses, and the reason is lost where more is under way: so what it refuses
    has to be met alone, wherever in the order it comes. More each time, and none after a connection that lasted.
    """
    if under_way == 0 or lived_ns > LASTED_NS:
        return 0
    return min(MOST_ALONE, max(1, 4 * before))
