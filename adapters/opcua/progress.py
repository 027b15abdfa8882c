"""How far one subscription has been taken. It outlives connections, so that nothing is offered twice or left out."""

from __future__ import annotations

from collections import deque

from asyncua import ua

from adapters.opcua.sequence import SequenceWatch
from gateway.contract import Receipt


class Progress:
    """Kept from one connection to the next, as long as the server keeps the subscription."""

    def __init__(self, subscription: ua.CreateSubscriptionResult, covered: int, lost_since: int | None = None) -> None:
        """`covered`: ns, now; `lost_since`: ns, the last covered moment of a subscription that this one replaces."""
        self.id: int = subscription.SubscriptionId
        self.publishing_s: float = subscription.RevisedPublishingInterval / 1000
        self.keep_alive_s: float = self.publishing_s * subscription.RevisedMaxKeepAliveCount
        self.watch = SequenceWatch()
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

    def newest(self) -> list[bytes]:
        """The data changes that were offered last, as they came."""
        data, changes = self.offered
        return [data[start:end] for start, end in changes]

    def repeated(self, sequence: int) -> None:
        """A notification came again that was offered before: acknowledge it, unless its commit will."""
        if sequence not in self.durable and all(sequence != pending for _, pending in self.pending):
            self.durable.append(sequence)
