"""How a station is asked, whatever lies between: the two kinds of links, and what both promise.

A reply is believed only when it cannot be another one's. Over TCP, TLS and UDP the transaction id tells (`mbap`). On a
line (RTU, ASCII) nothing in a reply tells which request it answers, so after a timeout the station is first asked for
another number of registers: its late reply is then recognised by its size and dropped (`LineLink`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from adapters.lines import Disconnected, Exchange, Line, NoReply, Stale
from adapters.modbus.address import Table
from adapters.modbus.framing import Frame, Framing, Wanted
from adapters.modbus.pdu import EXCEPTION_BIT, Answer, Request, check_reply

_LATE_NS: Final = 20_000_000_000
"""after which a reply that never came will not come any more: no serial server buffers for longer"""
_STALE_TRIES: Final = 3

_TABLES: Final = (Table.HOLDING, Table.INPUT, Table.COIL, Table.DISCRETE)
"""in the order in which a device is likely to answer for them"""


class Reply(NamedTuple):
    """A checked answer and when it was asked for and came, ns of the monotonic clock."""

    answer: Answer
    sent_ns: int
    received_ns: int


class Patience(NamedTuple):
    """What a station is given: seconds."""

    timeout_s: float
    turnaround_s: float = 0.0
    """silence before it is asked"""


class Link(Protocol):
    """A wire with stations on it."""

    @property
    def opened(self) -> int:
        """Times that it was opened."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it is open, as far as we know."""
        ...

    async def read(self, station: int, request: Request, patience: Patience, due_ns: int) -> Reply:
        """Ask a station when it is its turn (`due_ns`: monotonic, when it was due); its checked answer.

        Raises LineFault or BadReply.
        """
        ...

    def close(self) -> None:
        """Let go of the wire now."""
        ...


class LateReplies:
    """The requests on one wire whose replies may still come. It outlives links: a reply does not know of them."""

    def __init__(self) -> None:
        self._late: dict[int, list[tuple[int, Request]]] = {}
        """per station; with each request until when, ns monotonic"""

    def expect(self, station: int, request: Request, now_ns: int) -> None:
        """A request was not answered in time."""
        self._late.setdefault(station, []).append((now_ns + _LATE_NS, request))

    def of(self, station: int, now_ns: int) -> list[Request]:
        """What a station may still answer."""
        late = [(until_ns, asked) for until_ns, asked in self._late.pop(station, ()) if until_ns > now_ns]
        if late:
            self._late[station] = late
        return [asked for _, asked in late]

    def settled(self, station: int) -> None:
        """A station answered something later: it answers in order, so nothing older will come."""
        self._late.pop(station, None)


class LineLink:
    """Stations on a line."""

    def __init__(self, line: Line, framing: Framing, late: LateReplies) -> None:
        self._line = line
        self._framing = framing
        self._late = late

    @property
    def opened(self) -> int:
        """See `Link`."""
        return self._line.opened

    @property
    def is_open(self) -> bool:
        """See `Link`."""
        return self._line.is_open

    def close(self) -> None:
        """See `Link`."""
        self._line.close()

    async def read(self, station: int, request: Request, patience: Patience, due_ns: int) -> Reply:
        """See `Link`."""
        for _ in range(_STALE_TRIES):
            try:
                return await self._read(station, request, patience, due_ns)
            except Stale:  # a neighbour may have opened it, and the serial server closed it again, in between
                continue
        return await self._read(station, request, patience, due_ns)

    async def _read(self, station: int, request: Request, patience: Patience, due_ns: int) -> Reply:
        if late := self._late.of(station, self._line.now_ns()):
            await self._settle(station, request, late, patience, due_ns)
        found = await self._exchange(station, request, patience, due_ns, lambda frame: frame.station == station)
        return Reply(check_reply(request, found.reply.pdu), found.sent_ns, found.received_ns)

    async def _settle(
        self, station: int, request: Request, late: Sequence[Request], patience: Patience, due_ns: int
    ) -> None:
        """Ask something whose answer cannot be taken for a late one; what is still on its way comes before it."""
        probe, sure = question(request, late)
        function = probe.pdu[0]

        def wanted(frame: Frame) -> bool:
            if frame.station != station:
                return False
            if frame.pdu[0] == function | EXCEPTION_BIT:
                return sure
            return frame.pdu[0] == function and (frame.pdu[1] == probe.nbytes)

        await self._exchange(station, probe, patience, due_ns, wanted)
        self._late.settled(station)

    async def _exchange(
        self, station: int, request: Request, patience: Patience, due_ns: int, wanted: Wanted
    ) -> Exchange[Frame]:
        try:
            return await self._line.exchange(
                due_ns,
                self._framing.encode(station, request.pdu),
                self._framing.recognise(station, request.pdu[0], request.nbytes, wanted),
                patience.timeout_s,
                reply_bytes=self._framing.reply_bytes(request.nbytes),
                turnaround_s=patience.turnaround_s,
            )
        except Stale:
            raise
        except (NoReply, Disconnected, asyncio.CancelledError):  # it was asked, and nobody took its reply
            self._late.expect(station, request, self._line.now_ns())
            raise


def question(request: Request, late: Sequence[Request]) -> tuple[Request, bool]:
    """What to ask so that the answer is none of the late ones, and whether an exception is sure to be its answer.

    First the same place with another number of cells than any late reply or the next one has. An exception has no
    size, but while one reply alone may be late it is believed: were it that one's, then the answer to this question
    would come in place of the next one, and would not fit it. When that was not answered either, another table: both
    answers and exceptions carry the function code.
    """
    functions = {asked.pdu[0] for asked in late}
    if len(late) > 1 and (unused := [function for function in _TABLES if function not in functions]):
        return request.elsewhere(Table(unused[0])), True
    taken = {request.nbytes, *(asked.nbytes for asked in late)}
    cells, step = (1, 8) if request.is_bits else (1, 1)
    while (probe := request.resized(cells)).nbytes in taken:
        cells += step
    return probe, len(late) == 1
