"""Times as text: RFC 3339, UTC, with as many fraction digits as are needed and no more."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800
"""0001-01-01T00:00:00Z, the first that Python's datetime and RFC 3339's four digits have in common"""
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z"""


def rfc3339(time_ns: int) -> str:
    """See `time_text`."""
    return time_text(time_ns).decode()


def time_text(time_ns: int) -> bytes:
    """ns since the Unix epoch as e.g. 2026-11-20T08:00:00.123456Z (RFC 3339, 5.6); up to 9 digits, no trailing zeros.

    What lies outside the years 1 to 9999 is shown as the nearest second inside.
    """
    second, ns = divmod(time_ns, 1_000_000_000)
    whole = second_text(second)
    return b"%sZ" % (b"%s.%09d" % (whole, ns)).rstrip(b"0") if ns else b"%sZ" % whole


def from_rfc3339(text: str) -> int:
    """What `rfc3339` wrote, as ns since the Unix epoch again, to the digit. Raises ValueError for anything else."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z") or len(fraction) > 9 or (fraction and not fraction.isdecimal()):
        raise ValueError(f"{text!r}: a time like 2026-11-20T08:00:00.123456Z expected")
    second = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int((second - _EPOCH).total_seconds()) * 1_000_000_000 + int(fraction.ljust(9, "0"))


@lru_cache(maxsize=64)  # a thousand devices are read in the same second
def second_text(second: int) -> bytes:
    """A whole second since the Unix epoch as 2026-11-20T08:00:00, without zone."""
    within = min(max(second, _FIRST_SECOND), _LAST_SECOND)
    moment = datetime.fromtimestamp(within, UTC)
    return b"%04d-%02d-%02dT%02d:%02d:%02d" % moment.timetuple()[:6]
