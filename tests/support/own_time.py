"""An event loop and a clock for which the time stands still while the machine does not let this process run.

Where a device, a server and who asks it live in one process, a pause of the machine is not the silence of the other
side: every limit of time is then one of the loop's own time, on a quiet machine and on a busy one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import time
from typing import Any

from gateway.contract import SystemClock

_SCHEDSTAT = "/proc/thread-self/schedstat"
_LATE_S = 0.005
"""a wait that took so much longer than it should was not ended by what came in its last moment"""


class _Selector(selectors.DefaultSelector):
    """Counts how long was waited, as far as it was asked for and this thread could have gone on."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = time.monotonic() - time.thread_time()
        """and when it began: no loop's time is before that of a loop that has ended"""
        self._schedstat: int | None = None
        with contextlib.suppress(OSError):
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)

    def select(self, timeout: float | None = None) -> list[Any]:
        began, queued_s = time.monotonic(), self._queued_s() if timeout != 0 else 0.0
        found = super().select(timeout)
        took_s = time.monotonic() - began
        if timeout is not None and took_s > timeout:
            # Held up: what came may have come long before the next timer was due, so that it is dealt with first.
            took_s = timeout / 2 if found and took_s > timeout + _LATE_S else timeout
        elif found:
            took_s = max(0.0, took_s - (self._queued_s() - queued_s))
        self.waited_s += took_s
        return found

    def close(self) -> None:
        super().close()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None

    def _queued_s(self) -> float:
        """How long this thread has waited for a processor in its life: the second figure of Linux's schedstat, ns."""
        return 0.0 if self._schedstat is None else int(os.pread(self._schedstat, 96, 0).split()[1]) / 1e9


class OwnTimeLoop(asyncio.SelectorEventLoop):
    """Its time is what it was asked to wait and what its thread has worked."""

    def __init__(self) -> None:
        self._counting = _Selector()
        super().__init__(self._counting)

    def time(self) -> float:
        """Seconds; from the loop's own thread alone, which made it."""
        return self._counting.waited_s + time.thread_time()


class OwnClock(SystemClock):
    """Both clocks go on with the time of the loop that ran as it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead_ns = super().time_ns() - self.monotonic_ns()

    def time_ns(self) -> int:
        """Never later than the system's."""
        return self.monotonic_ns() + self._ahead_ns

    def monotonic_ns(self) -> int:
        """The loop's time; also once it has ended."""
        return int(self._loop.time() * 1e9)
