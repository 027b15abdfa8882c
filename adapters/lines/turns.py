"""Who may use a wire next: whoever has been due for longest."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A semaphore whose waiters are served by due time, not by when they came.

    A device that asks often cannot push a slow one aside: its next request is due later than that which waits. A turn
    that is given back is granted to a waiter only in the event loop's next round, so that whoever gave it back and
    goes on at once competes as well: a cycle of several requests is not torn apart by one that is due later.
    """

    def __init__(self, at_once: int = 1) -> None:
        """`at_once`: how many turns may be taken at the same time."""
        self._free = at_once
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._granting = False
        """a call of `_grant` is on its way; always so while a turn is free and somebody waits"""

    @asynccontextmanager
    async def turn(self, due_ns: int) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the length of the block. `due_ns`: when it was due, on any one clock."""
        await self.take(due_ns)
        try:
            yield
        finally:
            self.give_back()

    def take_now(self, due_ns: int) -> bool:
        """Take a turn if one is free and nobody waits who was due before."""
        if not self._free or (self._waiting and self._waiting[0][0] <= due_ns):
            return False
        self._free -= 1
        return True

    async def take(self, due_ns: int) -> None:
        """Wait for a turn; `give_back` must follow."""
        if self.take_now(due_ns):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (due_ns, self._count, granted))
        self._grant_soon()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back()  # the turn came together with the cancellation: pass it on
            raise

    def give_back(self) -> None:
        """Let another have the turn."""
        self._free += 1
        if self._waiting:
            self._grant_soon()

    def _grant_soon(self) -> None:
        if self._free and self._waiting and not self._granting:
            self._granting = True
            asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        self._granting = False
        while self._free and self._waiting:
            granted = heapq.heappop(self._waiting)[2]
            if not granted.done():
                self._free -= 1
                granted.set_result(None)
