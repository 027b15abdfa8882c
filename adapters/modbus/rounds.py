"""One life of a device's links: who polls what when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from adapters.lines import CannotConnect
from adapters.modbus.link import Link
from adapters.modbus.polls import Poll
from adapters.modbus.schedule import Schedule, stagger_ns
from adapters.modbus.station import Counters
from gateway.contract import Clock

log = logging.getLogger(__name__)

Cycle = Callable[[Link, Poll, int], Awaitable[None]]
"""Reads a poll over a link; the int is when it was due, ns monotonic. Raises LineFault"""


class Round:
    """Passes due polls to whichever link is free."""

    def __init__(
        self, device: str, polls: Sequence[Poll], links: Sequence[Link], cycle: Cycle, clock: Clock, counters: Counters
    ) -> None:
        self._device, self._links, self._cycle = device, links, cycle
        self._clock, self._counters = clock, counters
        self._schedule: Schedule[Poll] = Schedule()
        self._ready: asyncio.Queue[tuple[Poll, int, int]] = asyncio.Queue(len(polls))
        self._returned = asyncio.Event()
        now_ns = clock.monotonic_ns()
        for poll in polls:
            self._schedule.add(poll, now_ns + stagger_ns(device, poll.period_ns), poll.period_ns)

    async def run(self, at_once: int) -> None:
        """Poll until cancelled, with `at_once` requests on their way per link. Raises an exception group of faults."""
        async with asyncio.TaskGroup() as group:
            for number, link in enumerate(self._links):
                for _ in range(at_once):
                    group.create_task(self._work(link), name=f"modbus {self._device} link {number}")
            await self._dispatch()

    async def _dispatch(self) -> None:
        """Pass on polls as they come due; a poll is never due while it is out."""
        while True:
            now_ns = self._clock.monotonic_ns()
            while job := self._schedule.take(now_ns):
                self._ready.put_nowait(job)
            due_ns = self._schedule.next_due_ns()
            self._returned.clear()
            try:
                async with asyncio.timeout(None if due_ns is None else (due_ns - now_ns) / 1e9):
                    await self._returned.wait()
            except TimeoutError:
                continue

    async def _work(self, link: Link) -> None:
        """Run polls on one link. A connection too many for the device retires, if another one stands."""
        while True:
            poll, due_ns, period_ns = job = await self._ready.get()
            try:
                await self._cycle(link, poll, due_ns)
            except CannotConnect as fault:
                if not any(other.is_open for other in self._links):
                    raise
                self._ready.put_nowait(job)
                log.warning(
                    "%s: the device does not take another connection (%s); going on with fewer, set load.connections",
                    self._device,
                    fault,
                )
                return
            self._counters.cycles += 1
            missed = self._schedule.done(poll, due_ns, period_ns, self._clock.monotonic_ns())
            self._counters.missed_cycles += missed
            self._returned.set()
