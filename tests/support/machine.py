"""What a shared machine does to times that are measured on it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

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


class Taken:
    """What the machine takes from another process, or from this one, while something of it is timed."""

    def __init__(self, pid: int) -> None:
        self._threads = Path(f"/proc/{pid}/task")
        self._before = self._waits_s()
        self._now = dict(self._before)
        self._late_s = 0.0

    def sleep(self, seconds: float) -> None:
        """Sleep, and write down how much longer it took: then perhaps nobody was let run."""
        due = time.monotonic() + seconds
        time.sleep(seconds)
        self._late_s += time.monotonic() - due
        self._now.update(self._waits_s())

    @property
    def seconds(self) -> float:
        """How long threads of the process waited for a processor, or all of us did for the machine.

        The sum over its threads: what one does for another waits for both.
        """
        waited = sum(now - self._before.get(thread, 0.0) for thread, now in self._now.items())
        return max(waited, self._late_s)

    def _waits_s(self) -> dict[str, float]:
        """By thread; the second figure of Linux's schedstat is the time on a run queue, in ns."""
        found = {}
        with contextlib.suppress(OSError):
            for thread in self._threads.iterdir():
                with contextlib.suppress(OSError):
                    found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        return found
