"""Sequence numbers of notifications (Part 4, 5.13.1.1): 1 to 2^32 - 1, then 1 again; keep-alives use up none. Pure."""

from __future__ import annotations

from typing import Final

_NUMBERS: Final = 2**32 - 1


def following(sequence: int) -> int:
    """The number after `sequence`."""
    return sequence % _NUMBERS + 1


def preceding(sequence: int) -> int:
    """The number before `sequence`."""
    return (sequence - 2) % _NUMBERS + 1


def precedes(sequence: int, other: int) -> bool:
    """Whether `sequence` was given out before `other`; they are less than 2^31 apart."""
    return 0 < (other - sequence) % _NUMBERS <= _NUMBERS // 2


class SequenceWatch:
    """Says which numbers are missing, and which came twice."""

    def __init__(self, expected: int | None = None) -> None:
        """`expected`: the next number, where an earlier connection or process has taken those before it."""
        self._next = expected

    @property
    def expected(self) -> int:
        """The number of the notification that comes next; a subscription begins with 1."""
        return 1 if self._next is None else self._next

    def hold(self) -> None:
        """Whatever comes next, `expected` is what should: the subscription may have sent what nobody received."""
        self._next = self.expected

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
        """`sequence` has been dealt with; a keep-alive announces its number and leaves it to the next notification.

        Some servers announce 0, which is no number.
        """
        if keep_alive and sequence == 0:
            return
        self._next = sequence if keep_alive else following(sequence)
