"""Times that devices keep in registers, as RFC 3339 text in UTC. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.contract.status import BAD_OUT_OF_RANGE, GOOD

Read = Callable[[bytes], tuple[str, int]]
"""From the registers' bytes, most significant first, to (text, status); the text is nothing if Bad"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CENTURY: Final = 2000
"""two digits of a year mean this century: no bus of this kind carried a clock before"""


def timestamp_reader(format: str, zone: str) -> Read:
    """The reader of one format; `zone` is where the device's clock shows local time. Raises ValueError, OSError.

    What is no moment (zeros, a 13th month) is Bad, out of range.
    """
    parse, local = _PARSERS[format], ZoneInfo(zone)

    def read(raw: bytes) -> tuple[str, int]:
        try:
            moment = parse(raw)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=local)
            return _text(moment.astimezone(UTC)), GOOD
        except (ValueError, OverflowError):
            return "", BAD_OUT_OF_RANGE

    return read


def _text(moment: datetime) -> str:
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text + "Z"


def _unix(raw: bytes) -> datetime:
    seconds = int.from_bytes(raw, "big")
    if not seconds:
        raise ValueError("a clock that was never set")
    return _EPOCH + timedelta(seconds=seconds)


def _unix_ms(raw: bytes) -> datetime:
    milliseconds = int.from_bytes(raw, "big")
    if not milliseconds:
        raise ValueError("a clock that was never set")
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _calendar(raw: bytes) -> datetime:
    year, month, day, hour, minute, second = struct.unpack(">6H", raw)
    return datetime(year if year >= 100 else _CENTURY + year, month, day, hour, minute, second)


def _bcd(raw: bytes) -> datetime:
    year, month, day, hour, minute, second = (int(f"{byte:02x}") for byte in raw)
    return datetime(_CENTURY + year, month, day, hour, minute, second)


def _iec(raw: bytes) -> datetime:
    """IEC 60870-5-4 binary time, as power meters lay it out: year, month and day, hour and minute, milliseconds."""
    year, date, clock, milliseconds = struct.unpack(">4H", raw)
    if clock & 0x80:
        raise ValueError("the device says that its time is invalid")
    moment = datetime(_CENTURY + (year & 0x7F), date >> 8 & 0x0F, date & 0x1F, clock >> 8 & 0x1F, clock & 0x3F)
    if milliseconds >= 60_000:
        raise ValueError("a minute has 60,000 milliseconds")
    return moment + timedelta(milliseconds=milliseconds)


_PARSERS: Final[dict[str, Callable[[bytes], datetime]]] = {
    "unix": _unix,
    "unix-ms": _unix_ms,
    "calendar": _calendar,
    "bcd": _bcd,
    "iec": _iec,
}
