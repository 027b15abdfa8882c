"""One exchange at a time over a wire without message boundaries: a serial port, or a TCP serial server before one.

What comes while nobody has asked is dropped and counted: a reply that is late, noise, another master. What comes
after a request is given to the asker's own recognition, which knows what a reply to it looks like.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from adapters.lines.ports import Opener, Port
from adapters.lines.turns import Turns

F = TypeVar("F")

_STALE_AFTER: Final = 3
"""timeouts in a row, whoever was asked, after which a network connection may be half open and is made anew"""
_MOST_WAITS: Final = 20
"""for silence, before a request is sent into the noise"""
_ROUNDS_NS: Final = 1_000_000
"""what is left of a wait that no timer is asked for"""
_LONGEST: Final = 4096
"""bytes of what came in which a reply is looked for, the newest: who talks all the time must not keep us busy"""
_HEARD: Final = 256
"""bytes of what came that are kept for an error message"""
_STALE_S: Final = 0.02
"""a connection whose end comes so soon after a request was closed before that arrived: no station answers so fast"""


class LineFault(Exception):
    """The wire, not the answer, is at fault."""


class CannotConnect(LineFault):
    """The wire cannot be opened."""


class NoReply(LineFault):
    """No whole reply came in time."""


class Disconnected(LineFault):
    """The wire was closed instead of an answer."""


class Stale(Disconnected):
    """The wire, open from before, was closed as the request was sent: it was closed already and we did not know."""


class Clock(Protocol):
    """The part of the gateway's clock that a line needs."""

    def monotonic_ns(self) -> int:
        """ns of the boot's monotonic clock."""
        ...


Recognise = Callable[[bytes], tuple[int, F | None]]
"""Finds the reply in what has come so far: how many bytes are done with, and the reply if it is whole; never raises"""


class Exchange(NamedTuple, Generic[F]):
    """A reply, and when it was asked for and came: ns of the monotonic clock."""

    reply: F
    sent_ns: int
    received_ns: int


class Line:
    """A wire with one request on it at a time. All its users ask through `exchange`."""

    def __init__(
        self,
        opener: Opener,
        clock: Clock,
        *,
        open_timeout_s: float,
        quiet_s: float = 0.0,
        seconds: Callable[[float], float] | None = None,
        network: bool = False,
        absent: str = "no connection",
    ) -> None:
        """`quiet_s`: silence before each request. `seconds`: wire time of so many characters, where it matters.

        `network`: a connection that may be half open, so that silence of all who are asked makes it be opened anew.
        `absent`: how an error begins when the wire did not open in time.
        """
        self._opener = opener
        self._clock = clock
        self._open_timeout_s = open_timeout_s
        self._quiet_s = quiet_s
        self._seconds = seconds or (lambda characters: 0.0)
        self._network = network
        self._absent = absent
        self._turns = Turns()
        self._port: Port | None = None
        self._ears: _Ears | None = None
        self._buffer = b""
        self._heard = b""
        """the beginning of what came since the request"""
        self._wanted: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._closed = asyncio.Event()
        """the port that was open last is closed; a serial server may allow one connection only"""
        self._closed.set()
        self._echoes: bool | None = None
        """whether what we say comes back; None = not known yet"""
        self._silent = 0
        self._last_ns = 0
        self._left_until = 0.0
        """loop time until which a request may be answered that nobody waits for any more"""
        self.strays = 0
        """bytes that came when nobody had asked, or that were no part of a reply"""
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether the wire is open, as far as we know."""
        return self._port is not None

    def now_ns(self) -> int:
        """The clock of `due_ns` and of all times here: ns, monotonic."""
        return self._clock.monotonic_ns()

    def close(self) -> None:
        """Let go of the wire now; whoever waits gets Disconnected."""
        port, self._port = self._port, None
        if port is not None:
            port.abort()
        self._wake()

    async def exchange(
        self,
        due_ns: int,
        message: bytes,
        recognise: Recognise[F],
        timeout_s: float,
        *,
        reply_bytes: int = 0,
        turnaround_s: float = 0.0,
    ) -> Exchange[F]:
        """Send a message when it is its turn and the wire has been quiet, and return the reply.

        `timeout_s` is the time for the other side to think; the wire time of `message` and of a reply of
        `reply_bytes` comes on top. `turnaround_s`: silence that this device needs before it is asked. A message that
        comes back is dropped, because many RS-485 adapters hear what they say.
        Raises CannotConnect, NoReply, Disconnected or Stale.
        """
        async with self._turns.turn(due_ns):
            await self._spoken_out()
            port, fresh = self._port, False
            if port is None:
                port, fresh = await self._open(), True
            await self._quiet(max(self._quiet_s, turnaround_s))
            self.strays += len(self._buffer)
            self._buffer = self._heard = b""
            sent_ns = self._clock.monotonic_ns()
            allowed_s = timeout_s + self._seconds(len(message) + reply_bytes)
            deadline = asyncio.get_running_loop().time() + allowed_s
            port.write(message)
            try:
                reply = await self._receive(_Echo(message, reply_bytes, self._echoes), recognise, deadline)
            except TimeoutError:
                self._silent += 1
                if self._network and self._silent >= _STALE_AFTER:
                    self.close()
                came = f"; what came was {self._heard.hex(' ')}" if self._heard else ""
                raise NoReply(f"no reply came within {allowed_s:.3g} s{came}") from None
            except Disconnected as fault:
                soon = self._clock.monotonic_ns() - sent_ns < _STALE_S * 1e9
                raise (
                    Stale(str(fault)) if self._network and soon and not fresh and not self._heard else fault
                ) from None
            except asyncio.CancelledError:
                self._left_until = deadline
                raise
            self._silent = 0
            return Exchange(reply, sent_ns, self._last_ns)

    async def _receive(self, echo: _Echo, recognise: Recognise[F], deadline: float) -> F:
        """Raises TimeoutError or Disconnected."""
        while True:
            self._buffer = echo.cut(self._buffer)
            if self._buffer and not echo.expects(self._buffer):
                used, reply = recognise(self._buffer)
                self._buffer = self._buffer[used:]
                if reply is not None:
                    self._echoes = echo.heard
                    return reply
            if self._port is None:
                raise Disconnected(_closed(self._lost))
            await self._more(deadline)

    async def _more(self, deadline: float) -> None:
        """Wait until something came or the wire closed. Raises TimeoutError."""
        self._wanted = wanted = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(deadline):
                await wanted
        except TimeoutError:
            if wanted.cancelled():
                raise
            # It had come when we looked at the time: who was late is this process, not the station.
        finally:
            self._wanted = None

    async def _spoken_out(self) -> None:
        """Let a station answer whose asker was stopped; else its reply and the next request would collide."""
        if self._port is not None and asyncio.get_running_loop().time() < self._left_until:
            with contextlib.suppress(TimeoutError):
                await self._more(self._left_until)
        self._left_until = 0.0

    async def _quiet(self, silence_s: float) -> None:
        """Wait until nothing has been on the wire for so long; a wire that is never quiet is used all the same."""
        for _ in range(_MOST_WAITS):
            until_ns = self._last_ns + int(silence_s * 1e9)
            if until_ns <= self._clock.monotonic_ns():
                return
            await self._until(until_ns)

    async def _until(self, end_ns: int) -> None:
        """Wait for a moment to the microsecond, where an event loop's timers may be wrong by a millisecond.

        The silence of 3.5 characters is not longer than that: too soon is a frame that a station throws away, too late
        is time of the line that nobody uses. So the last of it is waited for in rounds of the loop.
        """
        wait_ns = end_ns - self._clock.monotonic_ns()
        while wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9 if wait_ns >= _ROUNDS_NS else 0)
            wait_ns = end_ns - self._clock.monotonic_ns()

    async def _open(self) -> Port:
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await self._closed.wait()
                self._lost = None
                self._ears = ears = _Ears(self)
                port = await self._opener(ears)
        except TimeoutError:
            raise CannotConnect(f"{self._absent} within {self._open_timeout_s:g} s") from None
        except OSError as error:
            raise CannotConnect(why(error)) from error
        self.opened += 1
        self._silent, self._echoes = 0, None
        if self._ears is not ears:
            raise Disconnected(_closed(self._lost))
        self._port = port
        self._closed.clear()
        return port

    def heard(self, ears: _Ears, data: bytes) -> None:
        """Bytes came."""
        if ears is not self._ears or self._port is None:
            return
        self._last_ns = self._clock.monotonic_ns()
        if self._wanted is None:
            self.strays += len(data)
            return
        self._buffer = (self._buffer + data)[-_LONGEST:]
        self._heard = (self._heard + data)[:_HEARD]
        self._wake()

    def lost(self, ears: _Ears, error: Exception | None) -> None:
        """The wire closed."""
        if ears is self._ears:
            self._port, self._ears = None, None
            self._lost = error
            self._closed.set()
            self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)


class _Echo:
    """Our own message as it may come back before the reply."""

    def __init__(self, message: bytes, reply_bytes: int, echoes: bool | None) -> None:
        self._message = message
        # A reply of the message's own length may be equal to it. Where the wire is known not to echo, it is the reply.
        self._possible = echoes is not False or reply_bytes != len(message)
        self.heard = False

    def cut(self, buffer: bytes) -> bytes:
        """What came, without the message at its beginning."""
        if self._possible and buffer.startswith(self._message):
            self._possible, self.heard = False, True
            return buffer[len(self._message) :]
        return buffer

    def expects(self, buffer: bytes) -> bool:
        """Whether what came is so far nothing but the beginning of the message."""
        return self._possible and self._message.startswith(buffer) and len(buffer) > 1


class _Ears:
    """What one opened port tells the line; a port that was given up is not listened to any more."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def data_received(self, data: bytes) -> None:
        self._line.heard(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.lost(self, exc)


def _closed(error: Exception | None) -> str:
    if error is None:
        return "the other side closed the connection"
    return f"the connection broke: {why(error) if isinstance(error, OSError) else error}"


def why(error: OSError) -> str:
    """The system's own words; asyncio puts the address there, which our messages have already."""
    if error.errno and not isinstance(error, socket.gaierror) and isinstance(error, ConnectionError):
        return os.strerror(error.errno)
    return error.strerror or str(error)
