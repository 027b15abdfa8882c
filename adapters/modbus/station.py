"""Asking one station: its budget, its retries, its patience, and what it may say that means "not now"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from adapters.lines import CannotConnect, LineFault, NoReply
from adapters.modbus.address import CellRange
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.link import Link, Reply, Terms
from adapters.modbus.pdu import ACKNOWLEDGE, BUSY, BadReply, Request, ShortReply
from adapters.modbus.schedule import Pacer
from adapters.modbus.wiretime import blocks_by_period
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
        self,
        config: ModbusDeviceConfig,
        clock: Clock,
        counters: Counters,
        pacer: Pacer | None = None,
        may_read: Callable[[CellRange], bool] | None = None,
    ) -> None:
        """`pacer`: a budget shared with others, instead of the device's own.

        `may_read`: which cells that nobody asked for may be read, instead of what the config says.
        """
        connection = config.connection
        self._number = connection.station
        may_read = may_read or partial(_may_read, config)
        self._terms = Terms(connection.timeout_s, connection.turnaround, may_read, self._admit)
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
            if attempt or self.silent_in_a_row or self.bad_in_a_row or self.doubtful:
                # who did not answer well waits behind the neighbours, and behind all that they ask for one timeout long
                due_ns = self._clock.monotonic_ns() + int(self._terms.timeout_s * 1e9)
            if self._pacer is None:
                self._counters.requests += 1
            else:
                await self._admit()
            try:
                reply = await link.read(self._number, request, self._terms, due_ns)
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

    async def _admit(self) -> None:
        """Every request on the wire has waited for its place in the budget, and is counted."""
        if self._pacer is not None and (wait_ns := self._pacer.reserve(self._clock.monotonic_ns())):
            await asyncio.sleep(wait_ns / 1e9)
        self._counters.requests += 1


def _may_read(config: ModbusDeviceConfig, cells: CellRange) -> bool:
    """Not what is unreadable; with `max_gap: 0` nothing beside points in a table that has any."""
    if any(hole.overlaps(cells) for hole in config.unreadable):
        return False
    if config.load.max_gap:
        return True
    table = [block for blocks in blocks_by_period(config).values() for block in blocks if block.table is cells.table]
    return not table or any(block.start <= cells.first and cells.last < block.start + block.cells for block in table)
