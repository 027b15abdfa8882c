"""Sequence numbers of notifications (Part 4, 5.13.1.1): 1 to 2^32 - 1, then 1 again; keep-alives use up none. Pure."""

from __future__ import annotations

from typing import Final

_NUMBERS: Final = 2**32 - 1


class SequenceWatch:
    """Says which numbers are missing, and which came twice."""

    def __init__(self) -> None:
        self._next: int | None = None

    @property
    def expected(self) -> int:
        """The number of the notification that comes next; a subscription begins with 1."""
        return 1 if self._next is None else self._next

    def missing(self, sequence: int, limit: int) -> tuple[list[int], bool] | None:
        """Numbers between the last one and `sequence`, oldest first, the newest `limit`; and whether there were more.

        None if `sequence` was seen before. The newest, because a server that runs out of memory forgets the oldest.
        """
        if self._next is None:
            return [], False
        distance = (sequence - self._next) % _NUMBERS
        if distance > _NUMBERS // 2:
            return None
        first = self._next - 1
        return [(first + step) % _NUMBERS + 1 for step in range(max(distance - limit, 0), distance)], distance > limit

    def advance(self, sequence: int, keep_alive: bool) -> None:
        """`sequence` has been dealt with; a keep-alive announces its number and leaves it to the next notification."""
        self._next = sequence if keep_alive else sequence % _NUMBERS + 1
