"""What a destination has not been delivered yet: a sorted list of position ranges, the last one live. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.contract import GatewayError

MOST_RANGES = 64


class Range(NamedTuple):
    """Positions start <= p < end; end None = live, open towards the future."""

    start: int
    end: int | None

    def holds(self, position: int) -> bool:
        """Whether `position` lies inside."""
        return self.start <= position and (self.end is None or position < self.end)


class Ranges:
    """Sorted, disjoint, never empty: at least the live range, at most `MOST_RANGES`."""

    def __init__(self, start: int = 0) -> None:
        self._ranges = [Range(start, None)]

    def __iter__(self) -> Iterator[Range]:
        return iter(tuple(self._ranges))

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def live(self) -> Range:
        """The open range."""
        return self._ranges[-1]

    @property
    def backlog(self) -> list[Range]:
        """The closed ranges, oldest first."""
        return self._ranges[:-1]

    @property
    def first(self) -> int:
        """Every position below is delivered or accounted for."""
        return self._ranges[0].start

    def __contains__(self, position: int) -> bool:
        return any(part.holds(position) for part in self._ranges)

    def add(self, start: int, end: int) -> bool:
        """Make [start, end) undelivered again. False, and nothing changes, when the list would grow too long."""
        return self._replace(_merged([*self._ranges, Range(start, end)]))

    def complete(self, start: int, end: int) -> bool:
        """Take [start, end) out. False, and nothing changes, when the list would grow too long."""
        kept: list[Range] = []
        for part in self._ranges:
            if part.end is not None and (part.end <= start or part.start >= end):
                kept.append(part)
                continue
            if part.start < start:
                kept.append(Range(part.start, start if part.end is None else min(part.end, start)))
            if part.end is None:
                kept.append(Range(max(part.start, end), None))
            elif part.end > end:
                kept.append(Range(max(part.start, end), part.end))
        return self._replace(kept)

    def split(self, position: int) -> bool:
        """Begin the live range at `position`: what lies before becomes backlog, joined to the range it touches.

        False, and nothing changes, when the list would grow too long; positions before the live range change nothing.
        """
        live = self.live
        if position <= live.start:
            return True
        closed = self._ranges[:-1]
        if closed and closed[-1].end == live.start:
            closed[-1] = Range(closed[-1].start, position)
        else:
            closed.append(Range(live.start, position))
        return self._replace([*closed, Range(position, None)])

    def to_state(self) -> list[list[int | None]]:
        """JSON-able: [[start, end], ..., [start, null]]."""
        return [[part.start, part.end] for part in _merged(self._ranges)]

    @classmethod
    def from_state(cls, state: list[list[int | None]]) -> Ranges:
        """What `to_state` gave. Raises GatewayError when it is something else."""
        parts = [Range(start, end) for start, end in state if start is not None]
        if len(parts) != len(state) or not parts or sum(part.end is None for part in parts) != 1:
            raise GatewayError(f"a destination's saved position is not readable: {state!r}; remove it to start anew")
        ranges = cls()
        ranges._ranges = _merged(parts)
        return ranges

    def _replace(self, ranges: list[Range]) -> bool:
        if len(ranges) > MOST_RANGES:
            return False
        self._ranges = ranges
        return True


def _merged(parts: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for part in sorted((p for p in parts if p.end is None or p.start < p.end), key=lambda p: p.start):
        last = merged[-1] if merged else None
        if last is None or (last.end is not None and last.end < part.start):
            merged.append(part)
        elif last.end is not None:
            merged[-1] = Range(last.start, None if part.end is None else max(last.end, part.end))
    return merged
