"""Asking one station: its budget, its retries, its patience, and what it may say that means "not now"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from adapters.lines import CannotConnect, LineFault, NoReply
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.link import Link, Patience, Reply
from adapters.modbus.pdu import ACKNOWLEDGE, BUSY, BadReply, Request, ShortReply
from adapters.modbus.schedule import Pacer
from gateway.contract import Clock

_LATER: Final = (ACKNOWLEDGE, BUSY)
_LATER_S: Final = 0.2
"""how long a busy device is left alone before it is asked again; doubled each time"""


@dataclass(slots=True)
class Counters:
    """What an adapter did since it was built."""

    requests: int = 0
    """sent, those that were sent again included"""
    timeouts: int = 0
    """of these, not answered in time"""
    bad_replies: int = 0
    """of these, answered with something that does not fit"""
    cycles: int = 0
    missed_cycles: int = 0
    connections: int = 0


class Station:
    """A device as something that can be asked. One `ask` at a time and link."""

    def __init__(
        self, config: ModbusDeviceConfig, clock: Clock, counters: Counters, pacer: Pacer | None = None
    ) -> None:
        """`pacer`: a budget shared with others, instead of the device's own."""
        connection = config.connection
        self._number = connection.station
        self._patience = Patience(connection.timeout_s, connection.turnaround)
        self._retries = connection.retries
        allowed = config.load.requests_per_s
        self._pacer = pacer or (Pacer(allowed) if allowed else None)
        self._clock = clock
        self._counters = counters
        self.bad_in_a_row = 0
        """blocks in a row whose last reply did not fit its request"""
        self.silent_in_a_row = 0
        """blocks in a row that were not answered; the caller counts"""
        self.doubtful = False
        """its link was lost and it has answered nothing since: nothing is asked twice, which spares its neighbours"""

    async def ask(self, link: Link, request: Request, due_ns: int) -> Reply:
        """The device's answer, asked for again up to `retries` times if a reply fails or the device is busy.

        Raises LineFault or BadReply for the last failure.
        """
        for attempt in range(self._retries + 1):
            last = attempt == self._retries or self.doubtful
            if attempt or self.silent_in_a_row or self.doubtful:
                # who did not answer in time waits behind the neighbours, and behind all that they ask for that long
                due_ns = self._clock.monotonic_ns() + int(self._patience.timeout_s * 1e9)
            if self._pacer is not None:
                await self._pace(self._pacer)
            self._counters.requests += 1
            try:
                reply = await link.read(self._number, request, self._patience, due_ns)
            except CannotConnect:
                raise
            except LineFault as fault:
                self._counters.timeouts += isinstance(fault, NoReply)
                if last:
                    raise
            except BadReply as fault:
                self._counters.bad_replies += 1
                if last:
                    self.bad_in_a_row += not isinstance(fault, ShortReply)
                    raise
            else:
                self.bad_in_a_row = self.silent_in_a_row = 0
                self.doubtful = False
                if last or reply.answer.exception not in _LATER:
                    return reply
                await asyncio.sleep(_LATER_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _pace(self, pacer: Pacer) -> None:
        if wait_ns := pacer.reserve(self._clock.monotonic_ns()):
            await asyncio.sleep(wait_ns / 1e9)
