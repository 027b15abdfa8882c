"""What a workload gives back: figures with the bars they have to meet, and everything else that was seen."""

from __future__ import annotations

from typing import Any, NamedTuple

Data = dict[str, Any]


class Figure(NamedTuple):
    """One number. Runs are joined by `name`: the median and the range of `value`."""

    name: str
    """what was measured, for example "highest rate kept up with" """
    value: float
    unit: str
    """for example "readings/s" """
    bar: float | None = None
    """None: told only"""
    at_least: bool = True
    """whether the bar is the least value that meets it, or the most"""

    def met(self, value: float) -> bool:
        """Whether `value` meets the bar."""
        return self.bar is None or (value >= self.bar if self.at_least else value <= self.bar)


class Outcome(NamedTuple):
    """One run of one workload."""

    figures: list[Figure]
    details: Data
    """plain data: every step, counts of what was lost, doubled, wrong"""
