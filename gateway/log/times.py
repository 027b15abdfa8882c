"""A range of times in the log: of the source, or of arrival. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch

EARLIEST: Final = -(2**63)
"""before every time: they are int64"""
LATEST: Final = 2**63
"""after every time"""


@dataclass(frozen=True)
class TimeRange:
    """since <= time < until, in ns since the Unix epoch."""

    since: int
    """`EARLIEST` for all that there is"""
    until: int
    """`LATEST` for all that there is"""
    by_received: bool = False
    """times of readings are those of arrival, not of the source"""

    def holds(self, time: int) -> bool:
        """Does this time lie inside?"""
        return self.since <= time < self.until

    def holds_all(self, first: int, last: int) -> bool:
        """Do all times from `first` to `last` lie inside, `last` too?"""
        return self.since <= first and last < self.until

    def overlaps(self, first: int, last: int) -> bool:
        """May a time from `first` to `last` lie inside, `last` too?"""
        return first < self.until and self.since <= last

    def rows(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """bool[n]: which readings of a batch lie inside."""
        if self.by_received:
            return np.full(len(batch), self.holds(batch.received_time))
        return (batch.source_time >= self.since) & (batch.source_time < self.until)
