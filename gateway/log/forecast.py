"""How many days of readings the log will hold, from what it has been writing."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from gateway.log.errors import LogError
from gateway.log.storage import FLASH, Kind
from gateway.log.view import LogView

DAY_NS: Final = 86_400 * 10**9
RECENT_NS: Final = 7 * DAY_NS
LEAST_NS: Final = 3600 * 10**9
"""less than an hour says nothing about a day"""
READING_BYTES: Final = 4.0
"""of a mixed plant, in blocks (python -m benchmarks.log.size)"""
READING_FLASH_BYTES: Final = 4.2
"""on eMMC and SD, where a block holds no more than the ring held"""


class Rate(NamedTuple):
    """How fast the log grows."""

    bytes_per_day: float
    used: int
    """bytes that the log takes now"""

    def days(self, budget_bytes: int) -> float:
        """How long a budget lasts."""
        return budget_bytes / self.bytes_per_day


def recent_rate(folder: Path) -> Rate | None:
    """How fast the log grew in its last seven days; None where there is no log, or less than an hour of it.

    Beside a running gateway too. A clock that was stepped makes it wrong, never negative.
    """
    try:
        with LogView(folder) as view:
            times, files = view.commit_times(), view.files
    except LogError:
        return None
    if times is None:
        return None
    recent = [file for file in files if times[1] - RECENT_NS <= file.created <= times[1]]
    span = times[1] - min((file.created for file in recent), default=times[1])
    if span < LEAST_NS:
        return None
    grown = sum(file.bytes for file in recent)
    return Rate(grown * DAY_NS / span, sum(file.bytes for file in files))


def rate_of_points(points: int, kind: Kind) -> Rate:
    """The rate if each point gave a reading every second; at least one point."""
    each = READING_FLASH_BYTES if kind in FLASH else READING_BYTES
    return Rate(max(1, points) * each * 86_400, 0)
