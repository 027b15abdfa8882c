"""A device's polls: blocks of one period that are read and offered together, and what became of each block.

A poll is at most 20 requests of one period; each of its cycles is one offer. A device with 10,000 registers is so
offered in four parts: the first readings do not wait for the last request, memory stays below 2,500 registers for
each connection, and most devices are still one offer a cycle. With several connections the polls are smaller, so that
each connection has its share, and whichever is free takes the next one that is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.decode import Layout
from adapters.modbus.pdu import Request
from adapters.modbus.planner import Block, Isolation
from adapters.modbus.totals import Totals
from adapters.modbus.wiretime import blocks_by_period
from gateway.contract import Point

REQUESTS_PER_OFFER = 20


@dataclass(slots=True)
class Read:
    """A block and what is known about it."""

    block: Block
    request: Request
    retry_ns: int = 0
    """monotonic: not before; more than 0 while the device refuses the block"""
    isolated: bool = False
    """comes from a bisection just now and need not be bisected again before its next retry"""

    @classmethod
    def of(cls, block: Block, isolated: bool = False) -> Read:
        """The read of a block."""
        return cls(block, Request.of(block), isolated=isolated)


class Poll:
    """Blocks that are read and offered together."""

    def __init__(
        self, device: str, points: Sequence[Point], blocks: Sequence[Block], period_ns: int, totals: Totals
    ) -> None:
        self._device, self._points, self._planned, self._totals = device, points, blocks, totals
        self.period_ns = period_ns
        self._set([Read.of(block) for block in blocks])

    def _set(self, reads: list[Read]) -> None:
        self.reads = reads
        self.layout = Layout(self._device, self._points, [read.block for read in reads], self._totals)

    def split(self, place: int, isolation: Isolation) -> None:
        """Read a refused block in the pieces that its isolation found."""
        pieces = [Read.of(block) for block in isolation.good]
        pieces += [Read.of(block, isolated=True) for block in isolation.refused]
        self._set([*self.reads[:place], *pieces, *self.reads[place + 1 :]])

    def restore(self) -> None:
        """Go back to the planned blocks once the device refuses nothing any more."""
        if not any(read.retry_ns for read in self.reads):
            self._set([Read.of(block) for block in self._planned])


def plan_polls(config: ModbusDeviceConfig, points: Sequence[Point]) -> list[Poll]:
    """The device's polls: blocks of one period, at most `REQUESTS_PER_OFFER` together. Pure."""
    polls = []
    totals = Totals(points)
    load = config.load
    for period_ns, blocks in blocks_by_period(config).items():
        size = min(REQUESTS_PER_OFFER, -(-len(blocks) // (load.connections * load.outstanding)))
        polls += [
            Poll(config.device, points, blocks[first : first + size], period_ns, totals)
            for first in range(0, len(blocks), size)
        ]
    return polls
