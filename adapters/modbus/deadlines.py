"""When the requests under way on all connections are given up: one timer for all of them.

Most requests are answered, so a timer of its own for each, that is nearly always taken back, costs more than all else
that is done for its time. Requests that have the same time run out of it in the order in which they were sent: what is
answered need not be looked for, it is dropped when it comes to the front.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from gateway.contract import Clock

_MS: Final = 1_000_000
"""ns"""
_MANY: Final = 1000
"""requests behind one that is not answered, from which on it is worth while to look which of them have been"""


class Waiting(Protocol):
    """Something that is waited for."""

    until_ns: int
    """monotonic"""

    @property
    def over(self) -> bool:
        """Nobody waits for it any more."""
        ...

    def time_out(self) -> None:
        """Its time has run out."""
        ...


class Deadlines:
    """Ends what has waited for too long; of one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[float, _Queue] = {}
        """by time limit, s: as many as configs have different ones"""

    def add(self, waiting: Waiting, now_ns: int, limit_s: float) -> None:
        """See to it that `waiting`, which began at `now_ns` (monotonic), is ended `limit_s` later."""
        queue = self._queues.get(limit_s)
        if queue is None:
            queue = self._queues[limit_s] = _Queue(limit_s, self._clock)
        queue.add(waiting, now_ns)


class _Queue:
    """What has the same time limit, the oldest first."""

    def __init__(self, limit_s: float, clock: Clock) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._clock = clock
        self._waiting: deque[Waiting] = deque()
        self._timed = False
        """a timer is set, for the first of those who waited then"""
        self._many = _MANY

    def add(self, waiting: Waiting, now_ns: int) -> None:
        queue = self._waiting
        while queue and queue[0].over:
            queue.popleft()
        if len(queue) >= self._many:
            queue = self._waiting = deque(each for each in queue if not each.over)
            self._many = max(_MANY, 2 * len(queue))
        waiting.until_ns = now_ns + self._limit_ns
        queue.append(waiting)
        if not self._timed:
            self._set_timer(now_ns)

    def _set_timer(self, now_ns: int) -> None:
        self._timed = True
        # Timers that count whole milliseconds (libuv's) round down as well as up.
        delay_ms = max(0, -((now_ns - self._waiting[0].until_ns) // _MS))
        asyncio.get_running_loop().call_later(delay_ms / 1e3, self._end_overdue)

    def _end_overdue(self) -> None:
        """End one, and the next in the event loop's next round: an answer that has come meanwhile counts."""
        self._timed = False
        now_ns = self._clock.monotonic_ns()
        queue = self._waiting
        while queue and queue[0].over:
            queue.popleft()
        if queue and queue[0].until_ns <= now_ns:
            queue.popleft().time_out()
        if queue:
            self._set_timer(now_ns)
