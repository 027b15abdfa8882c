"""How a station is asked, whatever lies between: the two kinds of links, and what both promise.

A reply is believed only when it cannot be another one's. Over TCP, TLS and UDP the transaction id tells (`mbap`). On a
line (RTU, ASCII) nothing in a reply tells which request it answers, so after a timeout the station is first asked for
another number of registers: its late reply is then recognised by its size and dropped (`LineLink`). What of the station
does not fit the request is passed over for as long as the right reply may come.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol

from adapters.lines import Disconnected, Exchange, Line, LineFault, NoReply, Stale
from adapters.modbus.address import MOST_BITS, MOST_REGISTERS, CellRange, Table
from adapters.modbus.framing import Frame, Framing
from adapters.modbus.pdu import Answer, BadReply, Request, ShortReply, check_reply, fits

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


class Terms(NamedTuple):
    """What a station is given, and what it is spared, by all that a link asks of it."""

    timeout_s: float
    turnaround_s: float
    """silence before it is asked"""
    may_read: Callable[[CellRange], bool]
    """whether cells may be read that nobody asked for"""
    admit: Callable[[], Awaitable[None]]
    """counts a request and waits for its place in the station's budget; the first of a `read` has done so"""


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

    async def read(self, station: int, request: Request, terms: Terms, due_ns: int) -> Reply:
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
        self._asking: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """per station: what may be late is known only when nothing is on its way to it"""

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

    async def read(self, station: int, request: Request, terms: Terms, due_ns: int) -> Reply:
        """See `Link`."""
        async with self._asking[station]:
            for _ in range(_STALE_TRIES):
                try:
                    return await self._read(station, request, terms, due_ns)
                except Stale:  # a neighbour may have opened it, and the serial server closed it again, in between
                    await terms.admit()
            return await self._read(station, request, terms, due_ns)

    async def _read(self, station: int, request: Request, terms: Terms, due_ns: int) -> Reply:
        while late := self._late.of(station, self._line.now_ns()):
            await self._settle(station, request, late, terms, due_ns)
            await terms.admit()
        found = await self._exchange(station, request, (), terms, due_ns)
        return Reply(check_reply(request, found.reply.pdu), found.sent_ns, found.received_ns)

    async def _settle(self, station: int, request: Request, late: Sequence[Request], terms: Terms, due_ns: int) -> None:
        """Ask something whose answer cannot be taken for a late one; what is still on its way comes before it."""
        probe = question(request, late, terms.may_read)
        if probe is None:
            raise LineFault(
                "what it was asked last may still be answered, and nothing may be read that would tell that answer "
                f"from the next (unreadable, max_gap: 0): it is left alone for {_LATE_NS // 10**9} s"
            )
        found = await self._exchange(station, probe, late, terms, due_ns)
        if any(fits(asked, found.reply.pdu) for asked in late):  # an exception, whose ever it is: now both may be late
            self._late.expect(station, probe, self._line.now_ns())
        else:
            self._late.settled(station)

    async def _exchange(
        self, station: int, request: Request, late: Sequence[Request], terms: Terms, due_ns: int
    ) -> Exchange[Frame]:
        """The station's answer, which may be that to one of `late` only while there is but one and it is an exception.

        What does not fit is passed over: another master's, or one that is later than any should be. It is the answer
        if no better one comes.
        """
        misfit: BadReply | None = None

        def wanted(frame: Frame) -> bool:
            nonlocal misfit
            if frame.station != station:
                return False
            explained = any(fits(asked, frame.pdu) for asked in late)
            try:
                check_reply(request, frame.pdu)
            except BadReply as fault:
                misfit = misfit if explained else fault
                return False
            return not explained or len(late) == 1

        try:
            return await self._line.exchange(
                due_ns,
                self._framing.encode(station, request.pdu),
                self._framing.recognise(station, request.pdu[0], request.nbytes, wanted),
                terms.timeout_s,
                reply_bytes=self._framing.reply_bytes(request.nbytes),
                turnaround_s=terms.turnaround_s,
            )
        except Stale:
            raise
        except (NoReply, Disconnected, asyncio.CancelledError) as fault:  # it was asked, and nobody took its reply
            if not isinstance(misfit, ShortReply):  # that is how some answer a read past their end
                self._late.expect(station, request, self._line.now_ns())
            if misfit is not None and isinstance(fault, NoReply):
                raise misfit from None
            raise


def question(request: Request, late: Sequence[Request], may_read: Callable[[CellRange], bool]) -> Request | None:
    """What to ask so that the answer is none of the late ones, reading only what may be; None = there is nothing.

    First about the same place with another number of cells than any late reply or the next one has. An exception has
    no size: then, or when that was not answered either, another table, whose answers and exceptions carry its number.
    """
    functions = {asked.pdu[0] for asked in late}
    elsewhere = [request.elsewhere(table) for table in _TABLES if table not in functions]
    taken = {request.nbytes, *(asked.nbytes for asked in late)}
    most, step = (MOST_BITS, 8) if request.is_bits else (MOST_REGISTERS, 1)
    resized = (probe for cells in range(1, most, step) for probe in request.resized(cells) if probe.nbytes not in taken)
    probes = chain(elsewhere, resized) if len(late) > 1 else chain(resized, elsewhere)
    return next((probe for probe in probes if may_read(probe.cells)), None)
