"""How far one subscription has been taken. It outlives connections, so that nothing is offered twice or left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from adapters.opcua.acquiring.sequence import SequenceWatch, precedes
from gateway.contract import Receipt


class Made(NamedTuple):
    """A subscription as the server has made it."""

    id: int
    publishing_s: float
    keep_alive_s: float
    lifetime_s: float
    """how long the server keeps it while nobody fetches"""


class Progress:
    """Kept from one connection to the next, as long as the server keeps the subscription."""

    def __init__(self, made: Made, covered: int, *, expected: int | None = None, lost_since: int | None = None) -> None:
        """`covered`: ns, now; `expected`: the next sequence number, where a process before this one took the others.

        `lost_since`: ns, the last covered moment of a subscription that this one replaces.
        """
        self.made = made
        self.id = made.id
        self.watch = SequenceWatch(expected)
        self.covered = covered
        self.lost_since = lost_since
        self.missed = False
        """a number will never come, and no gap says so yet"""
        self.offered: tuple[bytes, tuple[tuple[int, int], ...]] = (b"", ())
        """the newest notification that was offered, and where in it the data changes are"""
        self.pending: deque[tuple[Receipt, int]] = deque()
        """offered, oldest first, not known to be committed; the sequence number of each"""
        self.durable: list[int] = []
        """committed, not acknowledged"""
        self._without_copy: set[int] = set()
        self._released: int | None = None
        """the newest number that the server knows to be acknowledged"""

    def newest(self) -> list[bytes]:
        """The data changes that were offered last, as they came."""
        data, changes = self.offered
        return [data[start:end] for start, end in changes]

    def committed(self) -> None:
        """The oldest of `pending` is in the log."""
        _, sequence = self.pending.popleft()
        self._without_copy.discard(sequence)
        self.durable.append(sequence)

    def released(self, sequences: Iterable[int]) -> None:
        """The server has heard that these are acknowledged, so it keeps them no more."""
        for sequence in sequences:
            if self._released is None or precedes(self._released, sequence):
                self._released = sequence

    def repeated(self, sequence: int) -> bool:
        """A notification came again that was offered before: acknowledge it, unless its commit will.

        False if it cannot be that one, because the server has been told to forget it: it counts anew.
        """
        if any(sequence == pending for _, pending in self.pending) or sequence in self.durable:
            return True
        if self._released is not None and not precedes(self._released, sequence):
            return False
        self.durable.append(sequence)
        return True

    def in_log(self, sequences: Iterable[int]) -> None:
        """Of these numbers that the server still keeps, acknowledge those that a process before this one committed."""
        self.durable += [sequence for sequence in sequences if precedes(sequence, self.watch.expected)]

    def lost_copies(self, available: tuple[int, ...]) -> int:
        """How many notifications the server has forgotten that are offered and not committed; each counts once.

        `available`: what it says it could send again (Part 4, 5.13.5).
        """
        if not self.pending:
            return 0
        lost = {sequence for _, sequence in self.pending}.difference(available, self._without_copy)
        self._without_copy |= lost
        return len(lost)
