"""What a shared machine does to times that are measured on it."""

from __future__ import annotations

import asyncio
import time

_WORK_S = 0.2


def slowdown() -> float:
    """How many times longer work takes at this moment because others use the processors; 1 on a quiet machine.

    Elapsed time over processor time of some work of ours: what waits for a processor is not ours to answer for.
    """
    elapsed, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() - worked < _WORK_S:
        pass
    return (time.perf_counter() - elapsed) / (time.thread_time() - worked)


class Stalls:
    """How late an event loop goes on while something else is measured in it, and how long its own work kept it."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []
        """when it went on, and how late that was, seconds"""
        self.kept_s = 0.0
        """the longest that it worked, by processor time, while it should have gone on"""

    async def sleep(self, seconds: float) -> None:
        """Sleep, and write down how much longer it took."""
        due, worked = time.monotonic() + seconds, time.thread_time()
        await asyncio.sleep(seconds)
        now = time.monotonic()
        self._late.append((now, now - due))
        self.kept_s = max(self.kept_s, time.thread_time() - worked)

    def worst_s(self, within_s: float) -> float:
        """The most that came together within so many seconds: a chain of requests may wait at each of its links."""
        worst = total = 0.0
        first = 0
        for now, late in self._late:
            total += late
            while self._late[first][0] < now - within_s:
                total -= self._late[first][1]
                first += 1
            worst = max(worst, total)
        return worst
