"""Modbus over TCP, TLS and UDP (Messaging on TCP/IP V1.0b; Modbus/TCP Security V3.6): replies carry a transaction id.

pymodbus's own transaction layer skips replies with a wrong id in silence, waits for ever on a wrong protocol id and
reconnects in a task of its own; here every reply that was not asked for is an error at once, and on a stream the
connection it came on is closed before another is opened. Where several stations are behind one connection, one that
is slow or answers wrongly must not cost the others theirs: a reply that is known to be late is dropped, and one that
does not fit fails its own request alone while others are on their way.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Final

from adapters.lines import CannotConnect, Disconnected, NoReply, Opener, Port, Turns
from adapters.lines.line import why
from adapters.modbus.deadlines import Deadlines
from adapters.modbus.link import Reply, Terms
from adapters.modbus.pdu import BadReply, Request, check_reply
from gateway.contract import Clock

MBAP_LENGTH: Final = range(2, 255)
"""what the header's length field may say: unit and PDU (Messaging on TCP/IP V1.0b, 3.1.3). 2 is too short, but some
stacks send it with exceptions, which have a byte more"""
_STALE_AFTER: Final = 3
"""timeouts in a row, whichever station was asked, after which the connection may be half open and is made anew"""
_HEADER: Final = struct.Struct(">HHHB")
"""transaction id, protocol id (0), length of what follows it, unit (Messaging on TCP/IP V1.0b, 3.1.3)"""
_TOLD: Final = 6
"""bytes up to the end of the length"""
_SHORTEST: Final = _HEADER.size + 1
_MISTOLD: Final = (_SHORTEST, _SHORTEST + 1)
"""what an exception's header says that it is long, and what it is, where the length is 2"""


class MbapLink:
    """Stations behind one connection, at most one open at any time, with a number of requests on their way."""

    def __init__(
        self,
        opener: Opener,
        clock: Clock,
        deadlines: Deadlines,
        *,
        open_timeout_s: float,
        outstanding: int = 1,
        datagrams: bool = False,
    ) -> None:
        """`datagrams`: what comes has message boundaries, and what does not fit says nothing of what follows."""
        self._opener = opener
        self._clock = clock
        self._deadlines = deadlines
        self._open_timeout_s = open_timeout_s
        self._datagrams = datagrams
        self._turns = Turns(outstanding)
        self._opening = asyncio.Lock()
        self._stream: _Stream | None = None
        self._transaction = 0
        self._stations: set[int] = set()
        self._silent = 0
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """See `Link`."""
        return self._stream is not None and not self._stream.broken

    def close(self) -> None:
        """See `Link`."""
        if self._stream is not None:
            self._stream.give_up(Disconnected("the connection was closed"))

    async def read(self, station: int, request: Request, terms: Terms, due_ns: int) -> Reply:
        """See `Link`."""
        self._stations.add(station)
        for last in (False, True):
            if not self._turns.take_now(due_ns):
                await self._turns.take(due_ns)
            used = False
            try:
                stream = self._stream
                if stream is None or stream.broken:
                    stream = await self._connected()
                else:
                    used = stream.replies > 0
                return await self._ask(stream, station, request, terms.timeout_s)
            except Disconnected:  # the device may have closed it behind its last reply, as some do behind each
                if last or not used:
                    raise
            finally:
                self._turns.give_back()
            await terms.admit()
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, stream: _Stream, station: int, request: Request, timeout_s: float) -> Reply:
        # never re-used within 65,535 requests, over connections too: an old reply cannot have a new one's number
        self._transaction = transaction = self._transaction % 0xFFFF + 1
        asked = _Asked(self, stream, station, timeout_s)
        sent_ns = self._clock.monotonic_ns()
        stream.ask(transaction, asked, request.pdu)
        self._deadlines.add(asked, sent_ns, timeout_s)
        try:
            pdu, received_ns = await asked.reply
        except BaseException:
            stream.forget(transaction)
            raise
        try:
            answer = check_reply(request, pdu)
        except BadReply:
            stream.doubt()
            raise
        self._silent = 0
        return Reply(answer, sent_ns, received_ns)

    def on_silence(self, stream: _Stream) -> None:
        """A request was not answered in time."""
        self._silent += 1
        # A station of its own that is silent may be a connection that died; so may be silence of all behind one.
        if len(self._stations) == 1 or self._silent >= _STALE_AFTER or stream.buffer:
            stream.give_up(Disconnected("the connection was given up: nobody answered on it"))

    async def _connected(self) -> _Stream:
        async with self._opening:
            if self._stream is not None and not self._stream.broken:
                return self._stream
            if self._stream is not None:
                await self._stream.closed.wait()  # the device may allow one connection only
                self._stream = None
            self._stream = stream = await self._open()
            self._silent = 0
            return stream

    async def _open(self) -> _Stream:
        stream = _Stream(self._clock, self._datagrams)
        try:
            async with asyncio.timeout(self._open_timeout_s):
                stream.port = await self._opener(stream)
        except TimeoutError:
            raise CannotConnect(f"no connection within {self._open_timeout_s:g} s") from None
        except OSError as error:
            raise CannotConnect(why(error)) from error
        self.opened += 1
        return stream


class _Asked:
    """A request on its way."""

    __slots__ = ("_link", "_stream", "_timeout_s", "reply", "station", "until_ns")

    def __init__(self, link: MbapLink, stream: _Stream, station: int, timeout_s: float) -> None:
        self._link = link
        self._stream = stream
        self._timeout_s = timeout_s
        self.station = station
        self.until_ns = 0
        self.reply: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()
        """the reply's PDU, and when it came"""

    @property
    def over(self) -> bool:
        """See `deadlines.Waiting`."""
        return self.reply.done()

    def time_out(self) -> None:
        """See `deadlines.Waiting`."""
        came = f"only {len(self._stream.buffer)} bytes came" if self._stream.buffer else "no reply came"
        self.fail(NoReply(f"{came} within {self._timeout_s:g} s"))
        self._link.on_silence(self._stream)

    def fail(self, fault: Exception) -> None:
        """Let whoever waits know why there will be no reply."""
        if not self.reply.done():
            self.reply.set_exception(fault)


class _Stream:
    """Cuts the bytes of one connection into replies. Once `broken` it must be replaced."""

    def __init__(self, clock: Clock, datagrams: bool) -> None:
        self._clock = clock
        self._datagrams = datagrams
        self._waiting: dict[int, _Asked] = {}
        """requests without a reply, by transaction"""
        self._late: deque[int] = deque(maxlen=64)
        """transactions whose replies are not waited for any more"""
        self.port: Port | None = None
        self.buffer = b""
        self.broken = False
        self.closed = asyncio.Event()
        self.replies = 0

    def ask(self, transaction: int, asked: _Asked, pdu: bytes) -> None:
        """Send a request. Raises Disconnected."""
        if self.broken or self.port is None:
            raise Disconnected("the connection was closed")
        self._waiting[transaction] = asked
        self.port.write(_HEADER.pack(transaction, 0, len(pdu) + 1, asked.station) + pdu)

    def forget(self, transaction: int) -> None:
        """Nobody waits for this reply any more, though it may still come."""
        if self._waiting.pop(transaction, None) is not None:
            self._late.append(transaction)

    def doubt(self) -> None:
        """A whole reply came that fits no request. It is the fault of one station: others who wait are let be."""
        if not self._datagrams and all(asked.reply.done() for asked in self._waiting.values()):
            self.give_up(Disconnected("the connection was given up: a reply did not fit"))

    def give_up(self, fault: Exception) -> None:
        """Close the connection; whoever waits for a reply learns why."""
        self.broken = True
        for asked in self._waiting.values():
            asked.fail(fault)
        if self.port is not None:
            self.port.abort()
        else:
            self.closed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `PortProtocol`."""
        self.closed.set()
        why_lost = "the device closed the connection" if exc is None else f"the connection broke: {exc}"
        self.give_up(Disconnected(why_lost))

    def data_received(self, data: bytes) -> None:
        """See `PortProtocol`."""
        received_ns = self._clock.monotonic_ns()
        buffer = self.buffer + data if self.buffer else data
        while len(buffer) >= _HEADER.size and not self.broken:
            transaction, protocol, length, station = _HEADER.unpack_from(buffer)
            if protocol or length not in MBAP_LENGTH:
                self._garbled(f"what came is not Modbus TCP: {buffer[:16].hex(' ')}")
                break
            end = _TOLD + length
            if (end, len(buffer)) == _MISTOLD:
                end += 1
            if len(buffer) < end:
                break
            pdu, buffer = buffer[_HEADER.size : end], buffer[end:]
            self._take(station, transaction, pdu, received_ns)
        self.buffer = b"" if self._datagrams else buffer

    def _take(self, station: int, transaction: int, pdu: bytes, received_ns: int) -> None:
        asked = self._waiting.get(transaction)
        if asked is None or asked.reply.done():
            if transaction not in self._late and not self._datagrams:
                self._unasked(transaction)
        elif station == asked.station:
            self.replies += 1
            del self._waiting[transaction]
            asked.reply.set_result((pdu, received_ns))
        elif not self._datagrams:
            asked.fail(BadReply(f"station {station} answered instead of {asked.station}"))
            self.doubt()

    def _unasked(self, transaction: int) -> None:
        """Where one request is on its way it is known whose reply this should have been; else its time will run out."""
        waiting = [(number, asked) for number, asked in self._waiting.items() if not asked.reply.done()]
        if len(waiting) == 1:
            number, asked = waiting[0]
            asked.fail(BadReply(f"the reply has transaction id {transaction} instead of {number}"))
        self.doubt()

    def _garbled(self, text: str) -> None:
        """Where the next reply begins is not known."""
        if self._datagrams:
            return
        waiting = [asked for asked in self._waiting.values() if not asked.reply.done()]
        if len(waiting) == 1:
            waiting[0].fail(BadReply(text))
        self.give_up(Disconnected(f"the connection was given up: {text}"))
