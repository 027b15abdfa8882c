"""The window of unacknowledged messages: how many and how many bytes may be under way, and who comes first."""

from __future__ import annotations

import asyncio

from gateway.contract import Clock
from gateway.publishing.pacing import Bucket


class Window:
    """Slots for messages, with a share for the backlog, under one bandwidth cap.

    The backlog uses at most half of the slots and its own share of bytes, and only while nobody waits with something
    live: so live readings never queue behind it. A single message is always let through an empty window.
    """

    def __init__(
        self, slots: int, most_bytes: int, backlog_bytes: int, clock: Clock, bandwidth: int | None = None
    ) -> None:
        self.slots = slots
        """may be lowered and raised again at any time"""
        self._most_bytes = most_bytes
        self._backlog_bytes = backlog_bytes
        self._clock = clock
        self._bucket = None if bandwidth is None else Bucket(bandwidth, clock.monotonic_ns())
        self._live = [0, 0]
        self._backlog = [0, 0]  # messages, bytes
        self._live_waiting = 0
        self._wake: set[asyncio.Event] = set()

    @property
    def messages(self) -> int:
        """Messages under way."""
        return self._live[0] + self._backlog[0]

    @property
    def nbytes(self) -> int:
        """Bytes under way."""
        return self._live[1] + self._backlog[1]

    async def acquire(self, nbytes: int, backlog: bool) -> None:
        """Return with a slot taken for a message of `nbytes`; give it back with `release`."""
        if not self.take(nbytes, backlog):
            await self._wait(nbytes, backlog)

    def take(self, nbytes: int, backlog: bool) -> bool:
        """Take a slot if that needs no waiting; False where it does, and then nothing is changed."""
        return self._try(nbytes, backlog, waiting=False)

    def release(self, nbytes: int, backlog: bool) -> None:
        """The message is acknowledged, in whatever way."""
        used = self._backlog if backlog else self._live
        used[0] -= 1
        used[1] -= nbytes
        self.changed()

    def charge(self, nbytes: int) -> None:
        """Count bytes that are sent once more in a slot that is still taken; what comes next waits for them."""
        if self._bucket:
            self._bucket.take(nbytes, self._clock.monotonic_ns())

    def changed(self) -> None:
        """Let the waiting look again, after a release or when `slots` was changed."""
        for event in self._wake:
            event.set()

    async def idle(self) -> None:
        """Return when nothing is under way."""
        event = asyncio.Event()
        self._wake.add(event)
        try:
            while self.messages:
                event.clear()
                await event.wait()
        finally:
            self._wake.discard(event)

    async def _wait(self, nbytes: int, backlog: bool) -> None:
        event = asyncio.Event()
        self._wake.add(event)
        self._live_waiting += not backlog
        try:
            while True:
                event.clear()
                if self._try(nbytes, backlog, waiting=not backlog):
                    return
                await self._sleep(event)
        finally:
            self._wake.discard(event)
            self._live_waiting -= not backlog
            self.changed()

    async def _sleep(self, event: asyncio.Event) -> None:
        pause = self._bucket.wait_s(self._clock.monotonic_ns()) if self._bucket else 0.0
        if pause <= 0:
            await event.wait()
            return
        try:
            async with asyncio.timeout(pause):
                await event.wait()
        except TimeoutError:
            return

    def _try(self, nbytes: int, backlog: bool, waiting: bool) -> bool:
        if not self._fits(nbytes, backlog, waiting):
            return False
        if self._bucket is not None:
            now = self._clock.monotonic_ns()
            if self._bucket.wait_s(now) > 0:
                return False
            self._bucket.take(nbytes, now)
        used = self._backlog if backlog else self._live
        used[0] += 1
        used[1] += nbytes
        return True

    def _fits(self, nbytes: int, backlog: bool, waiting: bool) -> bool:
        (live, live_bytes), (count, held) = self._live, self._backlog
        if live + count >= self.slots:
            return False
        if live + count and live_bytes + held + nbytes > self._most_bytes:
            return False
        if not backlog:
            return waiting or not self._live_waiting  # first come, first served
        if self._live_waiting:
            return False
        return count == 0 or (count < max(1, self.slots // 2) and held + nbytes <= self._backlog_bytes)
