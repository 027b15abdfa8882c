"""The device's request budget: when the next request may be sent, and whose it is.

Requests are kept `1 / requests_per_s` apart, counted from when the one before was really sent: no second sees more than
`requests_per_s` + 1 of them, late wake-ups included, and a small controller sees no bursts. Whoever waits is served by
priority, yet nobody starves: after three in a row to the first, the next in line has one. Background work has half of
the budget at most.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import Final

_IN_A_ROW: Final = 3
"""requests that others may send while somebody of less importance waits"""
_BACKGROUND_SHARE: Final = 0.5


class Priority(enum.IntEnum):
    """Who goes first."""

    SESSION = 0
    """what keeps the session: login, keep-alive, renewing the channel, leaving"""
    PUBLISH = 1
    """live data: Publish, Republish, the Reads of poll mode"""
    ITEMS = 2
    """making subscriptions and monitored items"""
    BACKGROUND = 3
    """what can wait: history, refreshing after an outage, retrying bad nodes, learning types, browsing"""


class Pace:
    """One device's budget; it outlives connections, so that a reconnect is within it too."""

    def __init__(self, requests_per_s: float | None) -> None:
        """None = no bound."""
        self.requests_per_s = requests_per_s
        self._interval_s = 0.0 if requests_per_s is None else 1 / requests_per_s
        self._free_at = 0.0
        """loop time from which the next request may be sent"""
        self._background_at = 0.0
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in Priority)
        self._called: asyncio.Future[None] | None = None
        """whose turn has come, and who is about to send"""
        self._passed_over = 0
        """requests in a row for which somebody of less importance had to wait"""
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, priority: Priority) -> None:
        """Return when one request may be sent; the caller sends it without awaiting anything in between."""
        if not self._interval_s or self.take(priority):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        self._arm()
        try:
            await turn
            self._sent(priority)
        finally:
            if turn in self._waiting[priority]:
                self._waiting[priority].remove(turn)
            if self._called is turn:
                self._called = None
            self._arm()

    def take(self, priority: Priority) -> bool:
        """Whether one request may be sent at once; then it counts as sent. Never before those who wait."""
        if not self._interval_s:
            return True
        now = asyncio.get_running_loop().time()
        if now < self._free_at or self._called is not None or any(self._waiting):
            return False
        if priority is Priority.BACKGROUND and now < self._background_at:
            return False
        self._sent(priority)
        return True

    def _sent(self, priority: Priority) -> None:
        now = asyncio.get_running_loop().time()
        self._free_at = now + self._interval_s
        if priority is Priority.BACKGROUND:
            self._background_at = now + self._interval_s / _BACKGROUND_SHARE

    def _arm(self) -> None:
        """See to it that `_call` runs when the next of those who wait may send."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._called is not None or not any(self._waiting):
            return
        at = self._free_at
        if not any(self._waiting[: Priority.BACKGROUND]):
            at = max(at, self._background_at)
        self._timer = asyncio.get_running_loop().call_at(at, self._call)

    def _call(self) -> None:
        self._timer = None
        chosen = self._choose()
        if chosen is None:
            self._arm()
            return
        turn = self._waiting[chosen].popleft()
        if not turn.done():  # else its task is being cancelled, and arms anew when it runs
            self._called = turn
            turn.set_result(None)

    def _choose(self) -> Priority | None:
        ready = [each for each in Priority if self._waiting[each]]
        if asyncio.get_running_loop().time() < self._background_at and Priority.BACKGROUND in ready:
            ready.remove(Priority.BACKGROUND)
        if len(ready) < 2:
            self._passed_over = 0
            return ready[0] if ready else None
        if self._passed_over == _IN_A_ROW:
            self._passed_over = 0
            return ready[1]
        self._passed_over += 1
        return ready[0]
