"""One question of a tool at a time, its answer in words."""

from __future__ import annotations

from typing import Final, NamedTuple

from adapters.lines import CannotConnect, LineFault, NoReply
from adapters.modbus.address import Table
from adapters.modbus.link import Link
from adapters.modbus.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, BadReply, Request, ShortReply
from adapters.modbus.planner import Block
from adapters.modbus.station import Station
from gateway.contract import Clock, LinkLost

_EXCEPTIONS: Final = {
    1: "the device does not know this function",
    2: "the device has no such address",
    3: "the device refuses this address or number of cells",
    4: "the device failed to read it",
    5: "the device needs longer",
    6: "the device is busy",
    8: "the device's memory is damaged",
    0x0A: "a gateway in between cannot reach the line",
    0x0B: "a gateway in between says that the device does not answer",
}


class Answered(NamedTuple):
    """What came of a question."""

    data: bytes
    """empty = none"""
    problem: str | None = None
    refused: bool = False
    """the device is there and does not serve these cells"""
    silent: bool = False
    """nobody answered"""


class Asker:
    """Asks one station over one link."""

    def __init__(self, station: Station, link: Link, clock: Clock) -> None:
        self._station = station
        self._link = link
        self._clock = clock
        self.requests = 0

    async def read(self, table: Table, start: int, cells: int) -> Answered:
        """Read cells. Raises LinkLost when there is no connection at all."""
        self.requests += 1
        try:
            request = Request.of(Block(table, start, cells, ()))
            reply = await self._station.ask(self._link, request, self._clock.monotonic_ns())
        except CannotConnect as fault:
            raise LinkLost(f"{fault}; check the url, and whether another client holds the only connection") from fault
        except NoReply as fault:
            return Answered(b"", str(fault), silent=True)
        except ShortReply as fault:
            return Answered(b"", str(fault), refused=True)
        except (LineFault, BadReply) as fault:
            return Answered(b"", str(fault))
        code = reply.answer.exception
        if not code:
            return Answered(reply.answer.data)
        text = f"{_EXCEPTIONS.get(code, 'the device refuses')} (exception {code})"
        return Answered(b"", text, refused=code in (1, ILLEGAL_ADDRESS, ILLEGAL_VALUE), silent=code in (0x0A, 0x0B))
