"""Totalisers (electricity, flow, running hours): a value below the one before has wrapped, or was reset. Pure.

The value itself travels as it was read; the flag lets a receiver compute consumption without guessing. Whatever a
meter does while the gateway is down shows at the centre only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from adapters.modbus.point import ModbusPointConfig
from gateway.contract import Flag, Point

_NEAR: float = 0.1
"""a wrap leads from the last tenth of the range into its first; anything else is a reset"""


class Totals:
    """Remembers the last reading of each totaliser of a device, by permanent index."""

    def __init__(self, points: Sequence[Point]) -> None:
        ranges = _ranges(points)
        size = max(ranges, default=-1) + 1
        self._range = np.full(size, np.nan)
        self._last = np.full(size, np.nan)
        for index, most in ranges.items():
            self._range[index] = most

    @property
    def any(self) -> bool:
        """Whether the device has totalisers at all."""
        return len(self._range) > 0

    def flags(
        self, points: npt.NDArray[np.int32], values: npt.NDArray[np.generic], good: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.uint8] | None:
        """WRAPPED and RESET for readings of numbers; None where there is none. `good`: which readings count.

        Each point occurs once at most.
        """
        rows = np.flatnonzero(good & (points < len(self._range)))
        rows = rows[~np.isnan(self._range[points[rows]])]
        if not len(rows):
            return None
        index = points[rows]
        now, before, most = values[rows].astype(np.float64), self._last[index], self._range[index]
        self._last[index] = now
        fell = now < before  # never true for the first reading, whose `before` is NaN
        if not fell.any():
            return None
        wrapped = fell & (before > (1 - _NEAR) * most) & (now < _NEAR * most)
        found = np.zeros(len(points), np.uint8)
        found[rows[wrapped]] = Flag.WRAPPED
        found[rows[fell & ~wrapped]] = Flag.RESET
        return found


def _ranges(points: Sequence[Point]) -> Mapping[int, float]:
    """What each totaliser counts up to, by permanent index."""
    return {
        point.index: float(point.config.totaliser_range)
        for point in points
        if isinstance(point.config, ModbusPointConfig) and point.config.totaliser_range is not None
    }
