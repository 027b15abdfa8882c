"""Who may use a wire next: whoever has been due for longest."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A semaphore whose waiters are served by due time, not by when they came.

    A device that asks often cannot push a slow one aside: its next request is due later than that which waits.
    """

    def __init__(self, at_once: int = 1) -> None:
        """`at_once`: how many turns may be taken at the same time."""
        self._free = at_once
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def turn(self, due_ns: int) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the length of the block. `due_ns`: when it was due, on any one clock."""
        await self._take(due_ns)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, due_ns: int) -> None:
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (due_ns, self._count, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give_back()  # the turn came together with the cancellation: pass it on
            raise

    def _give_back(self) -> None:
        while self._waiting:
            granted = heapq.heappop(self._waiting)[2]
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1
