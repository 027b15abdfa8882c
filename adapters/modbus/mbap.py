"""Modbus over TCP, TLS and UDP (Messaging on TCP/IP V1.0b; Modbus/TCP Security V3.6): replies carry a transaction id.

pymodbus's own transaction layer skips replies with a wrong id in silence, waits for ever on a wrong protocol id and
reconnects in a task of its own; here every reply that was not asked for is an error at once, and on a stream the
connection it came on is closed before another is opened. Only a reply that is known to be late is dropped: where
several stations are behind one connection, one that is slow must not cost the others their connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from adapters.lines import CannotConnect, Disconnected, NoReply, Opener, Port, Turns
from adapters.lines.line import why
from adapters.modbus.link import Patience, Reply
from adapters.modbus.pdu import BadReply, Request, check_reply
from gateway.contract import Clock

MBAP_LENGTH: Final = range(2, 255)
"""what the header's length field may say: unit and PDU (Messaging on TCP/IP V1.0b, 3.1.3). 2 is too short, but some
stacks send it with exceptions and the framer knows them"""
_STALE_AFTER: Final = 3
"""timeouts in a row, whichever station was asked, after which the connection may be half open and is made anew"""
_FRAMER: Final = FramerSocket(DecodePDU(False))


class _Asked:
    """A request on its way."""

    def __init__(self, station: int) -> None:
        self.station = station
        self.reply: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()
        """the reply's PDU, and when it came"""

    def fail(self, fault: Exception) -> None:
        """Let whoever waits know why there will be no reply."""
        if not self.reply.done():
            self.reply.set_exception(fault)


class MbapLink:
    """Stations behind one connection, at most one open at any time, with a number of requests on their way."""

    def __init__(
        self, opener: Opener, clock: Clock, *, open_timeout_s: float, outstanding: int = 1, datagrams: bool = False
    ) -> None:
        """`datagrams`: what comes has message boundaries, and what does not fit says nothing of what follows."""
        self._opener = opener
        self._clock = clock
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

    async def read(self, station: int, request: Request, patience: Patience, due_ns: int) -> Reply:
        """See `Link`."""
        self._stations.add(station)
        async with self._turns.turn(due_ns):
            stream = await self._connected()
            # never re-used within 65,535 requests, over connections too: an old reply cannot have a new one's number
            self._transaction = transaction = self._transaction % 0xFFFF + 1
            asked = _Asked(station)
            sent_ns = self._clock.monotonic_ns()
            stream.ask(transaction, asked, request.pdu)
            try:
                async with asyncio.timeout(patience.timeout_s):
                    pdu, received_ns = await asked.reply
                answer = check_reply(request, pdu)
            except TimeoutError:
                raise self._timed_out(stream, patience.timeout_s) from None
            except BadReply as fault:
                if not self._datagrams:
                    stream.give_up(fault)
                raise
            finally:
                stream.answered(transaction)
            self._silent = 0
            return Reply(answer, sent_ns, received_ns)

    def _timed_out(self, stream: _Stream, timeout_s: float) -> NoReply:
        self._silent += 1
        came = f"only {len(stream.buffer)} bytes came" if stream.buffer else "no reply came"
        fault = NoReply(f"{came} within {timeout_s:g} s")
        # A station of its own that is silent may be a connection that died; so may be silence of all behind one.
        if len(self._stations) == 1 or self._silent >= _STALE_AFTER or stream.buffer:
            stream.give_up(Disconnected("the connection was given up: nobody answered on it"))
        return fault

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


class _Stream:
    """Cuts the bytes of one connection into replies. After any irregularity it is `broken` and must be replaced."""

    def __init__(self, clock: Clock, datagrams: bool) -> None:
        self._clock = clock
        self._datagrams = datagrams
        self._waiting: dict[int, _Asked] = {}
        self._late: deque[int] = deque(maxlen=64)
        """transactions whose replies are not waited for any more"""
        self.port: Port | None = None
        self.buffer = b""
        self.broken = False
        self.closed = asyncio.Event()

    def ask(self, transaction: int, asked: _Asked, pdu: bytes) -> None:
        """Send a request. Raises Disconnected."""
        if self.broken or self.port is None:
            raise Disconnected("the connection was closed")
        self._waiting[transaction] = asked
        self.port.write(_FRAMER.encode(pdu, asked.station, transaction))

    def answered(self, transaction: int) -> None:
        """Nobody waits for this reply any more."""
        asked = self._waiting.pop(transaction, None)
        if asked is not None and (not asked.reply.done() or asked.reply.cancelled()):
            self._late.append(transaction)

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
        self.buffer = self.buffer + data if self.buffer and not self._datagrams else data
        while len(self.buffer) >= 6 and not self.broken:
            if self.buffer[2:4] != b"\0\0" or int.from_bytes(self.buffer[4:6], "big") not in MBAP_LENGTH:
                self._unfit(f"what came is not Modbus TCP: {self.buffer[:16].hex(' ')}")
                return
            used, station, transaction, pdu = _FRAMER.decode(self.buffer)
            if not used:
                break
            self.buffer = self.buffer[used:]
            self._take(station, transaction, pdu, received_ns)
        if self._datagrams:
            self.buffer = b""

    def _take(self, station: int, transaction: int, pdu: bytes, received_ns: int) -> None:
        asked = self._waiting.get(transaction)
        if asked is None or asked.reply.done():
            if transaction not in self._late:
                self._unfit(self._unasked(transaction))
        elif station != asked.station:
            self._unfit(f"station {station} answered instead of {asked.station}")
        else:
            asked.reply.set_result((pdu, received_ns))

    def _unasked(self, transaction: int) -> str:
        if len(self._waiting) == 1:
            return f"the reply has transaction id {transaction} instead of {next(iter(self._waiting))}"
        return f"a reply with transaction id {transaction} came that nobody asked for"

    def _unfit(self, text: str) -> None:
        if not self._datagrams:
            self.give_up(BadReply(text))
