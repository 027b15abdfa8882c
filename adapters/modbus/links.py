"""From a device's url to its links, shared with all devices on the same wire."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from adapters.lines import Line, Opener, Shared
from adapters.lines.listen import Listener
from adapters.lines.ports import serial, tcp, udp
from adapters.modbus.config import ModbusConnectionConfig, ModbusDeviceConfig, TlsConfig
from adapters.modbus.deadlines import Deadlines
from adapters.modbus.framing import Ascii, Framing, Rtu
from adapters.modbus.link import LateReplies, LineLink, Link
from adapters.modbus.mbap import MbapLink
from adapters.modbus.wiretime import quiet_s
from gateway.contract import Clock

_SHARED: Final[Shared[Link]] = Shared()
_LISTENERS: Final[Shared[Listener]] = Shared()
LATE: Final[dict[tuple[str, str, int], LateReplies]] = {}
"""per wire, for as long as the process lives"""
_DEADLINES: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines]] = WeakKeyDictionary()
"""of all connections of an event loop"""
_FRAMINGS: Final[dict[str, Framing]] = {"rtu": Rtu(), "ascii": Ascii()}

_LINGER_S: Final = 60.0
"""how long a modem's connection is kept when its only device does not answer: longer than until it is asked again"""


@contextmanager
def open_links(config: ModbusDeviceConfig, clock: Clock, most: int) -> Iterator[list[Link]]:
    """The device's links, `load.connections` of them and at most `most`; closed when nobody uses them any more."""
    place = config.connection.place
    linger_s = _LINGER_S if place.dial_in else 0.0
    with ExitStack() as stack:
        if place.dial_in is not None:
            address = (place.host, place.port)
            listener = stack.enter_context(_LISTENERS.hold(address, lambda: Listener(*address), linger_s))
            opener = listener.opener(place.dial_in)
        else:
            opener = _opener(config.connection)
        yield [
            stack.enter_context(_SHARED.hold((place, number), lambda: _make(config, opener, clock), linger_s))
            for number in range(min(config.load.connections, most))
        ]


def _make(config: ModbusDeviceConfig, opener: Opener, clock: Clock) -> Link:
    connection = config.connection
    place = connection.place
    if place.framing == "mbap":
        return MbapLink(
            opener,
            clock,
            _DEADLINES.setdefault(asyncio.get_running_loop(), Deadlines(clock)),
            open_timeout_s=connection.timeout_s,
            outstanding=config.load.outstanding,
            datagrams=place.scheme == "udp",
        )
    line = Line(
        opener,
        clock,
        open_timeout_s=connection.timeout_s,
        quiet_s=quiet_s(place),
        seconds=place.serial.seconds if place.serial else None,
        # A modem that is cut off would have to dial in again; it is TCP's keep-alive that finds out whether it lives.
        network=place.serial is None and place.dial_in is None,
        absent="the device has not dialled in" if place.dial_in else "no connection",
    )
    return LineLink(line, _FRAMINGS[place.framing], LATE.setdefault(place.wire, LateReplies()))


def _opener(connection: ModbusConnectionConfig) -> Opener:
    place = connection.place
    if place.serial is not None:
        return serial(place.serial)
    if place.scheme == "udp":
        return udp(place.host, place.port)
    if place.scheme == "tls":
        tls = connection.tls
        assert tls is not None
        return tcp(place.host, place.port, lambda: tls_context(tls))
    return tcp(place.host, place.port)


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Both sides show certificates, TLS 1.2 at least (Modbus/TCP Security V3.6, 6 and 8). Raises OSError."""
    for file in (config.ca, config.certificate, config.key):
        try:
            Path(file).read_bytes()
        except OSError as error:  # ssl does not say which file
            raise OSError(error.errno, f"{file}: {error.strerror}; check connection.tls") from error
    context = ssl.create_default_context(cafile=config.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = config.check_name
    context.load_cert_chain(config.certificate, config.key)
    return context
