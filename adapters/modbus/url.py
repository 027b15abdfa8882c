"""`connection.url`: what the device hangs on. Pure.

tcp://HOST[:502]                  Modbus TCP
tls://HOST[:802]                  Modbus/TCP Security, with certificates on both sides
udp://HOST[:502]                  Modbus over UDP
rtu+tcp://HOST:PORT               RTU frames through a serial server
ascii+tcp://HOST:PORT             ASCII frames through a serial server
serial:///dev/ttyUSB0?baud=9600   a serial port; more keys: parity, stop, bits, framing
listen+rtu://ADDRESS:PORT         the device dials in (4G modem); keys: id, heartbeat, allow
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from adapters.lines.listen import Guest
from adapters.lines.ports import SerialSettings

SCHEMES: Final = ("tcp", "tls", "udp", "rtu+tcp", "ascii+tcp", "serial", "listen+rtu")
_PORTS: Final = {"tcp": 502, "udp": 502, "tls": 802}
"""IANA: mbap 502, mbap-s 802"""
_FRAMINGS: Final = {"rtu+tcp": "rtu", "ascii+tcp": "ascii", "listen+rtu": "rtu"}
_KEYS: Final = {
    "serial": ("baud", "parity", "stop", "bits", "framing"),
    "listen+rtu": ("id", "heartbeat", "allow"),
}
_EXPECTED: Final = (
    "expected tcp://HOST[:PORT], tls://, udp://, rtu+tcp://HOST:PORT, ascii+tcp://HOST:PORT, "
    "serial:///dev/ttyUSB0?baud=9600&parity=E or listen+rtu://ADDRESS:PORT"
)
_BAUD: Final = range(50, 4_000_001)
_HEX: Final = re.compile(r"(?:hex:)((?:[0-9a-fA-F]{2})+)")


class Place(NamedTuple):
    """A checked url."""

    scheme: str
    host: str
    port: int
    framing: str
    """mbap, rtu or ascii"""
    serial: SerialSettings | None = None
    dial_in: Guest | None = None

    @property
    def wire(self) -> tuple[str, str, int]:
        """Names the wire: equal for all devices on the same one, whatever else their urls say.

        What listens on a TCP port speaks one way, whatever the url calls it.
        """
        if self.serial is not None:
            return "serial", self.serial.path, 0
        if self.dial_in is not None:
            return "listen", f"{self.host}/{(self.dial_in.id or b'').hex()}", self.port
        return "udp" if self.scheme == "udp" else "tcp", self.host, self.port

    def __str__(self) -> str:
        if self.serial is not None:
            return self.serial.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(url: str) -> Place:
    """Raises ValueError saying what was expected and what was found."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{_EXPECTED}, found {url!r}: {error}") from None
    if parts.scheme not in SCHEMES or parts.username or parts.fragment:
        raise ValueError(f"{_EXPECTED}, found {url!r}")
    keys = _query(parts.scheme, parts.query, url)
    if parts.scheme == "serial":
        return _serial(unquote(parts.path), bool(parts.netloc), keys, url)
    if not host or parts.path not in ("", "/"):
        raise ValueError(f"{_EXPECTED}, found {url!r}")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{url!r}: {host!r} is no name of a host: {error}") from None
    port = _PORTS.get(parts.scheme) if port is None else port
    if not port:
        raise ValueError(f"{url!r}: a port between 1 and 65535 is needed, such as {parts.scheme}://{host}:4001")
    dial_in = _dial_in(keys, url) if parts.scheme == "listen+rtu" else None
    return Place(parts.scheme, host, port, _FRAMINGS.get(parts.scheme, "mbap"), dial_in=dial_in)


def _query(scheme: str, query: str, url: str) -> dict[str, str]:
    known = _KEYS.get(scheme, ())
    found: dict[str, str] = {}
    for text in filter(None, query.split("&")):
        key, _, value = text.partition("=")
        value = unquote(value)  # a plus sign is one: telephone numbers begin with it
        if key not in known:
            may = f"known here: {', '.join(known)}" if known else f"{scheme}:// takes none"
            raise ValueError(f"{url!r}: unknown key {key!r} after the question mark ({may})")
        if key in found:
            raise ValueError(f"{url!r}: {key} is given twice")
        found[key] = value
    return found


def _serial(path: str, has_host: bool, keys: Mapping[str, str], url: str) -> Place:
    if has_host or not path.startswith("/") or path == "/":
        raise ValueError(
            f"{url!r}: a serial port is written with three slashes, such as serial:///dev/ttyUSB0?baud=9600"
        )
    baud = keys.get("baud", "9600")
    if not (baud.isascii() and baud.isdigit()) or int(baud) not in _BAUD:
        raise ValueError(f"{url!r}: baud must be a number such as 9600, found {baud!r}")
    parity = _one_of(keys, "parity", "E", ("E", "O", "N"), url)
    # 11 bits a character always: without parity there are two stop bits (Serial Line V1.02, 2.5.1).
    stop = int(_one_of(keys, "stop", "2" if parity == "N" else "1", ("1", "2"), url))
    framing = _one_of(keys, "framing", "rtu", ("rtu", "ascii"), url)
    bits = int(_one_of(keys, "bits", "8", ("7", "8"), url))
    if bits == 7 and framing == "rtu":
        raise ValueError(f"{url!r}: RTU frames need 8 data bits; bits=7 goes with framing=ascii")
    settings = SerialSettings(path, int(baud), cast(Any, parity), cast(Any, stop), cast(Any, bits))
    return Place("serial", "", 0, framing, serial=settings)


def _one_of(keys: Mapping[str, str], key: str, default: str, allowed: tuple[str, ...], url: str) -> str:
    value = keys.get(key, default)
    if value not in allowed:
        raise ValueError(f"{url!r}: {key} must be {' or '.join(allowed)}, found {value!r}")
    return value


def _dial_in(keys: Mapping[str, str], url: str) -> Guest:
    allow = tuple(text.strip() for text in keys.get("allow", "").split(",") if text.strip())
    for network in allow:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(
                f"{url!r}: allow must be addresses or networks such as 10.0.0.0/8, found {network!r}"
            ) from None
    id, heartbeat = (_packet(keys[key], key, url) if key in keys else None for key in ("id", "heartbeat"))
    return Guest(id, heartbeat, allow)


def _packet(text: str, key: str, url: str) -> bytes:
    if not text:
        raise ValueError(f"{url!r}: {key} is empty; write the text that the modem sends, or hex:0102ff")
    if text.startswith("hex:"):
        match = _HEX.fullmatch(text)
        if match is None:
            raise ValueError(f"{url!r}: after hex: expected pairs of hexadecimal digits in {key}, found {text!r}")
        return bytes.fromhex(match[1])
    return text.encode()
