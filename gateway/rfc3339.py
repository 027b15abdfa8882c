"""Times as text: RFC 3339, UTC, with as many fraction digits as are needed and no more."""

from __future__ import annotations

from datetime import UTC, datetime

_FIRST_SECOND = -62_135_596_800
"""0001-01-01T00:00:00Z, the first that Python's datetime and RFC 3339's four digits have in common"""
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z"""


def rfc3339(time_ns: int) -> str:
    """ns since the Unix epoch as e.g. 2026-11-20T08:00:00.123456Z (RFC 3339, 5.6); up to 9 digits, no trailing zeros.

    What lies outside the years 1 to 9999 is shown as the nearest second inside.
    """
    second, ns = divmod(time_ns, 1_000_000_000)
    fraction = f".{ns:09}".rstrip("0") if ns else ""
    return f"{second_text(second).decode()}{fraction}Z"


def second_text(second: int) -> bytes:
    """A whole second since the Unix epoch as 2026-11-20T08:00:00, without zone."""
    within = min(max(second, _FIRST_SECOND), _LAST_SECOND)
    moment = datetime.fromtimestamp(within, UTC)
    return b"%04d-%02d-%02dT%02d:%02d:%02d" % moment.timetuple()[:6]
