"""Times as text: RFC 3339, UTC, with as many fraction digits as are needed and no more."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(time_ns: int) -> str:
    """ns since the Unix epoch as e.g. 2026-11-20T08:00:00.123456Z; up to 9 digits, trailing zeros left out.

    Raises OverflowError or ValueError outside the years 1 to 9999.
    """
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"
