"""Sequence numbers of notifications (Part 4, 5.13.1.1): 1 to 2^32 - 1, then 1 again; keep-alives use up none. Pure."""

from __future__ import annotations

from typing import Final

_NUMBERS: Final = 2**32 - 1


class SequenceWatch:
    """Says which numbers are missing, and which came twice."""

    def __init__(self) -> None:
        self._next: int | None = None

    def missing(self, sequence: int, limit: int) -> tuple[list[int], bool] | None:
        """Numbers between the last one and `sequence`, oldest first, at most `limit`; and whether there were more.

        None if `sequence` was seen before.
        """
        if self._next is None:
            return [], False
        distance = (sequence - self._next) % _NUMBERS
        if distance > _NUMBERS // 2:
            return None
        first = self._next - 1
        return [(first + step) % _NUMBERS + 1 for step in range(min(distance, limit))], distance > limit

    def advance(self, sequence: int, keep_alive: bool) -> None:
        """`sequence` has been dealt with; a keep-alive announces its number and leaves it to the next notification."""
        self._next = sequence if keep_alive else sequence % _NUMBERS + 1
