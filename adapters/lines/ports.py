"""How a wire is opened: a TCP connection, a UDP socket, TLS, a serial port. Each is a `Port` that brings bytes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
import termios
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, Protocol, cast

from serial import PARITY_EVEN, PARITY_NONE, PARITY_ODD, Serial, SerialException

_CHUNK: Final = 4096


class PortProtocol(Protocol):
    """Who is told of what a port brings."""

    def data_received(self, data: bytes) -> None:
        """Bytes came; over UDP a whole datagram."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is closed and will bring nothing more; `exc` says why, None = the other side or we closed it."""
        ...


class Port(Protocol):
    """An open wire."""

    def write(self, data: bytes) -> None:
        """Send; never blocks."""
        ...

    def abort(self) -> None:
        """Close now. `connection_lost` follows."""
        ...


Opener = Callable[[PortProtocol], Awaitable[Port]]
"""Opens a port whose events go to the argument; raises OSError saying what is wrong"""


class _Stream(asyncio.Protocol):
    def __init__(self, owner: PortProtocol) -> None:
        self.data_received = owner.data_received  # type: ignore[method-assign]
        self.connection_lost = owner.connection_lost  # type: ignore[method-assign]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, owner: PortProtocol) -> None:
        self._owner = owner

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._owner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connection_lost(exc)


class _UdpPort:
    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.sendto(data)

    def abort(self) -> None:
        self._transport.abort()


def tcp(host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None) -> Opener:
    """Opens TCP connections; `tls` makes the context anew each time, so that renewed files are taken up."""

    async def connect(owner: PortProtocol) -> Port:
        loop = asyncio.get_running_loop()
        context = tls() if tls else None
        transport, _ = await loop.create_connection(lambda: _Stream(owner), host, port, ssl=context)
        return cast(Port, transport)

    return connect


def udp(host: str, port: int) -> Opener:
    """Opens a UDP socket towards one address; datagrams from others are not seen."""

    async def connect(owner: PortProtocol) -> Port:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(owner), remote_addr=(host, port))
        return _UdpPort(transport)

    return connect


class SerialSettings(NamedTuple):
    """How a serial port is set. 11 bits a character: start, 8 data, parity and 1 stop, or none and 2 stop."""

    path: str
    baud: int = 9600
    parity: Literal["E", "O", "N"] = "E"
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8

    @property
    def bits(self) -> int:
        """Bits of one character on the wire."""
        return 1 + self.data_bits + (self.parity != "N") + self.stop_bits

    def seconds(self, characters: float) -> float:
        """How long so many characters take on the wire."""
        return characters * self.bits / self.baud


class SerialPort:
    """An open serial port; nobody else can open it meanwhile. Bytes go to `owner` as they come."""

    def __init__(self, settings: SerialSettings, owner: PortProtocol) -> None:
        """Raises OSError."""
        self._owner = owner
        self._serial = _open(settings)
        self._fd: int | None = self._serial.fileno()
        self._waiting = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes) -> None:
        """See `Port`."""
        if self._waiting:
            self._waiting += data
        else:
            self._send(data)

    def abort(self) -> None:
        """See `Port`."""
        self._close(None)

    def _send(self, data: bytes) -> None:
        if self._fd is None:
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._close(error)
            return
        rest = data[sent:]
        if rest and not self._waiting:
            self._loop.add_writer(self._fd, self._writable)
        elif self._waiting and not rest:
            self._loop.remove_writer(self._fd)
        self._waiting = rest

    def _writable(self) -> None:
        self._send(self._waiting)

    def _readable(self) -> None:
        assert self._fd is not None
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._close(error)
            return
        if data:
            self._owner.data_received(data)
        else:  # a terminal that was hung up reads empty for ever
            self._close(OSError(errno.EIO, "the port was hung up; was it unplugged?"))

    def _close(self, error: Exception | None) -> None:
        if self._fd is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = None
        with contextlib.suppress(OSError):  # an unplugged adapter cannot even be closed in good order
            self._serial.close()
        self._loop.call_soon(self._owner.connection_lost, error)


def serial(settings: SerialSettings) -> Opener:
    """Opens a serial port; opening takes no time, but for the kernel's driver."""

    async def connect(owner: PortProtocol) -> Port:
        return SerialPort(settings, owner)

    return connect


_PARITY: Final = {"E": PARITY_EVEN, "O": PARITY_ODD, "N": PARITY_NONE}


def _open(settings: SerialSettings) -> Serial:
    try:
        return Serial(
            settings.path,
            baudrate=settings.baud,
            bytesize=settings.data_bits,
            parity=_PARITY[settings.parity],
            stopbits=settings.stop_bits,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )
    except SerialException as error:
        raise OSError(error.errno or errno.EIO, _why(settings.path, error)) from error
    except termios.error as error:  # what pyserial lets through when a port goes away, or cannot be set so
        raise OSError(error.args[0], f"{settings.path} cannot be set up: {error.args[1]}") from error
    except ValueError as error:
        raise OSError(errno.EINVAL, f"{settings.path} cannot be set to {settings.baud} baud: {error}") from error


def _why(path: str, error: SerialException) -> str:
    if error.errno == errno.ENOENT:
        return f"there is no {path}; is the adapter plugged in? /dev/serial/by-id names it wherever it is plugged in"
    if error.errno == errno.EACCES:
        return f"{path} may not be opened; let the user of the gateway into the group that owns it (dialout)"
    if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY):
        return f"another program holds {path}"
    return f"{path}: {os.strerror(error.errno) if error.errno else error}"
