"""What a shared machine does to times that are measured on it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.wait import POLL_S

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

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._late: list[tuple[float, float]] = []
        """when it went on, and how late that was, seconds"""
        self.kept_s = 0.0
        """the longest that it worked, by processor time, while it should have gone on"""

    async def sleep(self, seconds: float) -> None:
        """Sleep, and write down how much longer it took."""
        due, worked = self._clock() + seconds, time.thread_time()
        await asyncio.sleep(seconds)
        now = self._clock()
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
    """What the machine takes from processes while something of them is timed."""

    def __init__(self, *pids: int) -> None:
        """Processes, by default this one and all that it has started: servers, brokers, gateways."""
        mine = psutil.Process()
        self._pids = pids or (mine.pid, *(child.pid for child in mine.children(recursive=True)))
        self._before = self._waits_s()
        self._waited = dict(self._before)
        self._stolen_s = psutil.cpu_times().steal

    @property
    def seconds(self) -> float:
        """How long they waited for a processor, or the whole machine did; look now and then, threads end.

        The sum over all threads: what one does for another waits for both.
        """
        self._waited.update(self._waits_s())
        waited = sum(now - self._before.get(thread, 0.0) for thread, now in self._waited.items())
        return waited + float(psutil.cpu_times().steal - self._stolen_s)

    def _waits_s(self) -> dict[str, float]:
        """By thread; the second figure of Linux's schedstat is the time on a run queue, in ns."""
        found = {}
        for pid in self._pids:
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):
                        found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        return found


async def within(
    predicate: Callable[[], object], limit_s: float, message: str = "", *, taken: Taken | None = None
) -> float:
    """Wait for something that is promised in so many seconds, of those in which the machine let us run.

    Returns how many it took, those that were taken left out. Raises AssertionError.
    """
    taken, began = taken or Taken(), time.monotonic()
    while not predicate():
        took_s = time.monotonic() - began
        assert took_s <= limit_s + taken.seconds, f"not within {limit_s:g} s: {message or 'condition'}"
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began - taken.seconds
