"""Requests and the check of replies (MODBUS Application Protocol V1.1b3, 6.1 to 6.4 and 7). Pure.

Real devices answer with too few registers, another unit or another transaction id; a reply is believed only when all
of it fits its request, because a value attributed to the wrong point is worse than none.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from adapters.modbus.address import CELLS, CellRange, Table
from adapters.modbus.planner import Block
from gateway.contract.status import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_TIMEOUT,
)

EXCEPTION_BIT: Final = 0x80
ILLEGAL_ADDRESS: Final = 0x02
ILLEGAL_VALUE: Final = 0x03
ACKNOWLEDGE: Final = 0x05
"""the device has taken the request and needs longer"""
BUSY: Final = 0x06

_READ: Final = struct.Struct(">BHH")
"""function code, first cell, number of cells"""

STATUS_BY_EXCEPTION: Final[dict[int, int]] = {
    0x01: BAD_CONFIGURATION_ERROR,  # illegal function
    0x02: BAD_CONFIGURATION_ERROR,  # illegal data address
    0x03: BAD_CONFIGURATION_ERROR,  # illegal data value: mostly more cells than the device serves at once
    0x04: BAD_DEVICE_FAILURE,  # server device failure
    0x05: BAD_TIMEOUT,  # acknowledge: the device needs longer, the next cycle asks again
    0x06: BAD_TIMEOUT,  # server device busy
    0x08: BAD_DEVICE_FAILURE,  # memory parity error
    0x0A: BAD_NO_COMMUNICATION,  # gateway path unavailable
    0x0B: BAD_NO_COMMUNICATION,  # gateway target device failed to respond
}


def status_of(exception: int) -> int:
    """The OPC UA status for an exception code (section 7); unknown codes are communication errors."""
    return STATUS_BY_EXCEPTION.get(exception, BAD_COMMUNICATION_ERROR)


class BadReply(Exception):
    """A reply that does not fit its request."""


class ShortReply(BadReply):
    """The right reply with fewer cells than asked for: how some stacks answer a read past their last register."""


class Request(NamedTuple):
    """A read, ready to be framed."""

    pdu: bytes
    nbytes: int
    """data bytes that the reply must have"""

    @classmethod
    def of(cls, block: Block) -> Request:
        """The read of a block, by function code 1 to 4."""
        return cls._read(block.table, block.start, block.cells)

    @classmethod
    def _read(cls, table: Table, start: int, cells: int) -> Request:
        nbytes = (cells + 7) // 8 if table.is_bits else 2 * cells
        return cls(_READ.pack(table, start, cells), nbytes)

    @property
    def is_bits(self) -> bool:
        """Whether it asks for bits rather than registers."""
        return Table(self.pdu[0]).is_bits

    @property
    def cells(self) -> CellRange:
        """What it reads."""
        function, start, cells = _READ.unpack(self.pdu)
        return CellRange(Table(function), start, start + cells - 1)

    def elsewhere(self, table: Table) -> Request:
        """A read of one cell of another table, at the same address."""
        return self._read(table, self.cells.first, 1)

    def resized(self, cells: int) -> tuple[Request, Request]:
        """The same read with so many cells: from its first one on, and up to its last one."""
        table, first, last = self.cells
        return (
            self._read(table, min(first, CELLS - cells), cells),
            self._read(table, max(0, last - cells + 1), cells),
        )


class Answer(NamedTuple):
    """What a device answered: data, or an exception code."""

    data: bytes
    exception: int


def check_reply(request: Request, pdu: bytes) -> Answer:
    """The answer in a reply's PDU. Raises BadReply or ShortReply, saying what was expected and what came."""
    function = request.pdu[0]
    if len(pdu) < 2:
        raise BadReply(f"the reply is {len(pdu)} bytes long, too short to be one")
    if pdu[0] == function | EXCEPTION_BIT:
        return Answer(b"", pdu[1])
    if pdu[0] != function:
        raise BadReply(f"the reply has function code {pdu[0]} instead of {function}")
    if pdu[1] != len(pdu) - 2:
        raise BadReply(f"the reply announces {pdu[1]} data bytes and has {len(pdu) - 2}")
    if pdu[1] < request.nbytes:
        raise ShortReply(f"the reply has {pdu[1]} data bytes, {request.nbytes} were asked for")
    if pdu[1] > request.nbytes:
        raise BadReply(f"the reply has {pdu[1]} data bytes, only {request.nbytes} were asked for")
    return Answer(pdu[2:], 0)


def fits(request: Request, pdu: bytes) -> bool:
    """Whether a reply's PDU may be the answer."""
    try:
        check_reply(request, pdu)
    except BadReply:
        return False
    return True
