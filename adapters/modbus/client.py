"""One connection to a device: framed by pymodbus, one request in flight, dropped whenever a reply is in doubt.

pymodbus's own transaction layer skips replies with a wrong id in silence, waits for ever on a wrong protocol id and
reconnects in a task of its own; here every such reply is an error at once, and the connection it came on is closed
before another is opened, so that a late reply can never be taken for the next one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, cast

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from adapters.modbus.config import Endpoint
from adapters.modbus.pdu import Answer, BadReply, Request, check_reply
from gateway.contract import Clock

MBAP_LENGTH: Final = range(2, 255)
"""what the header's length field may say: unit and PDU (Messaging on TCP/IP V1.0b, 3.1.3). 2 is too short, but some
stacks send it with exceptions and the framer knows them"""


class LinkFault(Exception):
    """The connection, not the answer, is at fault."""


class CannotConnect(LinkFault):
    """No connection could be made."""


class NoReply(LinkFault):
    """The whole reply did not come in time."""


class Disconnected(LinkFault):
    """The device closed the connection instead of answering."""


class Frame(NamedTuple):
    """A reply as it came, unchecked."""

    station: int
    transaction: int
    pdu: bytes
    received_ns: int
    """monotonic"""


class Reply(NamedTuple):
    """A checked answer and when it was asked for and came, ns of the monotonic clock."""

    answer: Answer
    sent_ns: int
    received_ns: int


class FrameStream(asyncio.Protocol):
    """Cuts the bytes of one connection into replies. After any irregularity it is `broken` and must be replaced."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._framer = FramerSocket(DecodePDU(False))
        self._buffer = b""
        self._reply: asyncio.Future[Frame] | None = None
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self.broken = False

    async def exchange(self, station: int, transaction: int, pdu: bytes, timeout_s: float) -> Frame:
        """Send a request and return the frame that comes back. Raises NoReply, Disconnected or BadReply."""
        loop = asyncio.get_running_loop()
        if self.broken or self._transport is None:
            raise Disconnected("the connection was closed")
        reply: asyncio.Future[Frame] = loop.create_future()
        self._reply = reply
        self._transport.write(self._framer.encode(pdu, station, transaction))
        timer = loop.call_later(timeout_s, self._time_out, reply, timeout_s)
        try:
            return await reply
        finally:
            timer.cancel()
            self._reply = None

    async def close(self) -> None:
        """Close at once and wait until the socket is closed: the device may allow one connection only."""
        self.abort()
        if self._transport is not None:
            await self._closed.wait()

    def abort(self) -> None:
        """Close without waiting."""
        self.broken = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from it

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._closed.set()
        self._fail(Disconnected("the device closed the connection" if exc is None else f"the connection broke: {exc}"))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        received_ns = self._clock.monotonic_ns()
        if self._reply is None or self._reply.done():
            self._fail(BadReply("bytes came that nobody asked for"))
            return
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if len(buffer) < 6:
            return
        if buffer[2:4] != b"\0\0" or int.from_bytes(buffer[4:6], "big") not in MBAP_LENGTH:
            self._fail(BadReply(f"what came is not Modbus TCP: {buffer[:16].hex(' ')}"))
            return
        used, station, transaction, pdu = self._framer.decode(buffer)
        if not used:
            return
        if used < len(buffer):
            self._fail(BadReply(f"{len(buffer) - used} bytes more than one reply came"))
            return
        self._buffer = b""
        self._reply.set_result(Frame(station, transaction, pdu, received_ns))

    def _time_out(self, reply: asyncio.Future[Frame], timeout_s: float) -> None:
        if not reply.done():
            came = f"only {len(self._buffer)} bytes came" if self._buffer else "no reply came"
            self._fail(NoReply(f"{came} within {timeout_s:g} s"))

    def _fail(self, fault: Exception) -> None:
        """Give the connection up; whoever waits for a reply learns why."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(fault)
        self.abort()


Connect = Callable[[Callable[[], FrameStream]], Awaitable[FrameStream]]
"""Opens a transport for a stream that it makes by the argument; raises OSError"""


def tcp(endpoint: Endpoint) -> Connect:
    """Opens TCP connections to `endpoint`."""

    async def connect(make: Callable[[], FrameStream]) -> FrameStream:
        loop = asyncio.get_running_loop()
        stream: FrameStream
        _, stream = await loop.create_connection(make, endpoint.host, endpoint.port)
        return stream

    return connect


class Connection:
    """At most one open connection at any time, opened when needed. `read` by one task at a time."""

    def __init__(self, connect: Connect, station: int, timeout_s: float, clock: Clock) -> None:
        self._connect = connect
        self._station = station
        self._timeout_s = timeout_s
        self._clock = clock
        self._stream: FrameStream | None = None
        self._transaction = 0
        self.opened = 0
        """connections made so far"""

    @property
    def is_open(self) -> bool:
        """Whether a connection stands, as far as we know."""
        return self._stream is not None and not self._stream.broken

    async def read(self, request: Request) -> Reply:
        """Send one request, return its checked answer. Raises LinkFault or BadReply; the connection is then dropped."""
        stream = self._stream
        if stream is None or stream.broken:
            stream = await self._open()
        # never re-used within 65,535 requests, over connections too: an old reply cannot have a new request's number
        self._transaction = transaction = self._transaction % 0xFFFF + 1
        sent_ns = self._clock.monotonic_ns()
        try:
            frame = await stream.exchange(self._station, transaction, request.pdu, self._timeout_s)
            if frame.transaction != transaction:
                raise BadReply(f"the reply has transaction id {frame.transaction} instead of {transaction}")
            if frame.station != self._station:
                raise BadReply(f"station {frame.station} answered instead of {self._station}")
            return Reply(check_reply(request, frame.pdu), sent_ns, frame.received_ns)
        except (LinkFault, BadReply):
            stream.abort()
            raise

    def abort(self) -> None:
        """Close without waiting."""
        if self._stream is not None:
            self._stream.abort()

    async def _open(self) -> FrameStream:
        if self._stream is not None:
            await self._stream.close()
            self._stream = None
        try:
            async with asyncio.timeout(self._timeout_s):
                self._stream = stream = await self._connect(lambda: FrameStream(self._clock))
        except TimeoutError:
            raise CannotConnect(f"no connection within {self._timeout_s:g} s") from None
        except OSError as error:
            raise CannotConnect(_why(error)) from error
        self.opened += 1
        return stream


def _why(error: OSError) -> str:
    """The system's own words; asyncio puts the address there, which our message has already."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)
