"""One life of a device's links: who polls what when."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from adapters.lines import CannotConnect
from adapters.modbus.link import Link
from adapters.modbus.polls import Poll
from adapters.modbus.schedule import Schedule, stagger_ns
from adapters.modbus.station import Counters
from gateway.contract import Clock

log = logging.getLogger(__name__)

_MS: Final = 1_000_000
"""ns"""

Cycle = Callable[[Link, Poll, int], Awaitable[None]]
"""Reads a poll over a link; the int is when it was due, ns monotonic. Raises LineFault"""
_Job = tuple[Poll, int, int]
"""what is polled, when it was due (ns monotonic), its period (ns)"""


class Round:
    """Passes due polls to whichever link is free."""

    def __init__(
        self, device: str, polls: Sequence[Poll], links: Sequence[Link], cycle: Cycle, clock: Clock, counters: Counters
    ) -> None:
        self._device, self._links, self._cycle = device, links, cycle
        self._clock, self._counters = clock, counters
        self._schedule: Schedule[Poll] = Schedule()
        self._ready: deque[_Job] = deque()
        """due and not out yet: each poll once at most"""
        self._idle: deque[asyncio.Future[_Job]] = deque()
        """those who wait for a poll, one at most for each request that may be on its way"""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0
        now_ns = clock.monotonic_ns()
        for poll in polls:
            self._schedule.add(poll, now_ns + stagger_ns(device, poll.period_ns), poll.period_ns)

    async def run(self, at_once: int) -> None:
        """Poll until cancelled, with `at_once` requests on their way per link. Raises an exception group of faults."""
        try:
            async with asyncio.TaskGroup() as group:
                for number, link in enumerate(self._links):
                    for _ in range(at_once):
                        group.create_task(self._work(link), name=f"modbus {self._device} link {number}")
                self._dispatch(self._clock.monotonic_ns())
        finally:
            self._stop_timer()

    def _dispatch(self, now_ns: int) -> None:
        """Pass on polls that have come due, and see to it that the next one is passed on; a poll is never due while
        it is out.

        A timer and no task of its own: with a thousand devices, that waits for each of their cycles cost more than
        the cycles.
        """
        while job := self._schedule.take(now_ns):
            self._pass_on(job)
        due_ns = self._schedule.next_due_ns()
        if self._timer is not None:
            if due_ns is not None and self._timer_due_ns <= due_ns:
                return
            self._stop_timer()
        if due_ns is not None:
            self._timer_due_ns = due_ns
            # Timers that count whole milliseconds (libuv's) round down as well as up, and whoever is too soon has to
            # wait once more.
            delay_ms = -((now_ns - due_ns) // _MS)
            self._timer = asyncio.get_running_loop().call_later(delay_ms / 1e3, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._dispatch(self._clock.monotonic_ns())

    def _pass_on(self, job: _Job) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(job)
                return
        self._ready.append(job)

    def _next(self) -> asyncio.Future[_Job]:
        """The next poll that nobody else has."""
        job: asyncio.Future[_Job] = asyncio.get_running_loop().create_future()
        if self._ready:
            job.set_result(self._ready.popleft())
        else:
            self._idle.append(job)
        return job

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _work(self, link: Link) -> None:
        """Run polls on one link. A connection too many for the device retires, if another one stands."""
        while True:
            poll, due_ns, period_ns = job = await self._next()
            try:
                await self._cycle(link, poll, due_ns)
            except CannotConnect as fault:
                if not any(other.is_open for other in self._links):
                    raise
                self._pass_on(job)
                log.warning(
                    "%s: the device does not take another connection (%s); going on with fewer, set load.connections",
                    self._device,
                    fault,
                )
                return
            self._counters.cycles += 1
            now_ns = self._clock.monotonic_ns()
            self._counters.missed_cycles += self._schedule.done(poll, due_ns, period_ns, now_ns)
            self._dispatch(now_ns)
