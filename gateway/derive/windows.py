"""Aggregates over stretches of time, as OPC UA Part 13 knows them: Minimum, Maximum, Average, End, Count.

Windows begin at whole multiples of their length since the Unix epoch (UTC), and their results carry the time at which
the window began, as Part 13 has it for intervals that go forward in time. A window is closed by the first reading of
its point in a later one. Bad readings, and those without a value, are left out; a window that had some, or an Uncertain
one, or of which the gateway did not see the beginning, gives UncertainDataSubNormal, and one without any usable reading
BadNoData (a count is 0 then). A window without any reading gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Final

import numpy as np

from gateway.contract.batch import ValueType
from gateway.contract.config import WindowConfig
from gateway.contract.status import BAD, BAD_NO_DATA, GOOD, UNCERTAIN_DATA_SUB_NORMAL
from gateway.derive.rows import Rows

_SECOND: Final = 1_000_000_000


@dataclass(slots=True)
class _Sums:
    """What is known of one window; of fixed size, however many readings it has."""

    number: int
    """the window's, since the epoch"""
    whole: bool
    """every reading until now is Good, and none is missing at the beginning"""
    usable: int = 0
    total: float = 0.0
    least: float = inf
    most: float = -inf
    last: float = nan
    basis: int = 0
    flags: int = 0

    def add(self, rows: Rows) -> None:
        """More readings of this window."""
        usable = (rows.status < BAD) & ~np.isnan(rows.value)
        values = rows.value[usable]
        self.whole = self.whole and len(values) == len(usable) and not rows.status.any()
        self.basis = max(self.basis, int(rows.basis.max()))
        self.flags |= int(np.bitwise_or.reduce(rows.flags))
        if len(values):
            self.usable += len(values)
            self.total += float(values.sum())
            self.least = min(self.least, float(values.min()))
            self.most = max(self.most, float(values.max()))
            self.last = float(values[-1])


_KINDS: Final[Mapping[str, Callable[[_Sums], float]]] = {
    "min": lambda sums: sums.least,
    "max": lambda sums: sums.most,
    "mean": lambda sums: sums.total / sums.usable,
    "last": lambda sums: sums.last,
}


class Window:
    """One aggregate of one point."""

    def __init__(self, config: WindowConfig) -> None:
        self.operands: tuple[str, ...] = (config.of,)
        self.type = ValueType.INT64 if config.kind == "count" else ValueType.FLOAT64
        self._kind = config.kind
        self._over = round(config.over * _SECOND)
        self._open: _Sums | None = None

    def compute(self, held: Mapping[str, Rows], new: Mapping[str, Rows]) -> Rows | None:
        """A result for each window that the new readings close; None for none. `held` is not looked at."""
        rows = new.get(self.operands[0])
        if rows is None:
            return None
        numbers = rows.time // self._over
        starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])).tolist()
        closed = []
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            number = int(numbers[start])
            if self._open is None or self._open.number != number:
                if self._open is not None:
                    closed.append(self._open)
                self._open = _Sums(number, whole=self._open is not None)
            self._open.add(rows.take(slice(start, end)))
        return self._results(closed) if closed else None

    def _results(self, closed: list[_Sums]) -> Rows:
        values = [self._value(sums) for sums in closed]
        statuses = [
            BAD_NO_DATA if np.isnan(value) else GOOD if sums.whole else UNCERTAIN_DATA_SUB_NORMAL
            for value, sums in zip(values, closed, strict=True)
        ]
        return Rows(
            np.array([sums.number * self._over for sums in closed]),
            np.array(values),
            np.array(statuses, np.uint32),
            np.array([sums.basis for sums in closed], np.uint8),
            np.array([sums.flags for sums in closed], np.uint8),
        )

    def _value(self, sums: _Sums) -> float:
        if self._kind == "count":
            return float(sums.usable)
        return _KINDS[self._kind](sums) if sums.usable else nan
