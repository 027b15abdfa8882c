"""A parked entry that is sent again: which part of it is where, in the account and among the entries."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.publishing.lanes import Chunk, Lane
from gateway.publishing.ledger import Ledger
from gateway.publishing.parked import Marked, Parking


class Again:
    """Message by message: `begin`, hand over what is sent, `sent`; in the end `close`."""

    def __init__(self, marked: Marked, ledger: Ledger, parking: Parking) -> None:
        self._marked = marked
        self._ledger = ledger
        self._parking = parking
        self._key = marked.key
        self._at = marked.n
        """everything of the entry below this offset is settled"""
        self._until = marked.n
        self._hidden = 0
        self._refused: list[dict[str, Any]] = []
        self._done = asyncio.Event()
        self._totals = [0, 0, 0]
        self.lane = Lane("replay", marked.first, self._settle, self._refused.append, yields=True)

    def begin(self, n: int) -> Chunk:
        """The next message begins at offset `n`; what lies before and was not sent may not leave any more."""
        self._hidden = n - self._at
        self._refused.clear()
        self._done.clear()
        return self.lane.begin([], self._marked.last + 1)

    async def sent(self, chunk: Chunk, until: int) -> None:
        """The message, up to offset `until`, was handed over; returns when it is acknowledged, and accounted for."""
        self._until = until
        self.lane.seal(chunk)
        await self._done.wait()

    def close(self) -> None:
        """Nothing more can be sent: the rest may not leave any more."""
        if self._at < self._marked.end:
            self._hidden, self._until = self._marked.end - self._at, self._marked.end
            self._refused.clear()
            self._settle(0, ())

    def __str__(self) -> str:
        delivered, refused, hidden = self._totals
        return f"{delivered} delivered, {refused} set aside again, {hidden} withheld"

    def _settle(self, _: int, __: object) -> None:
        count = self._until - self._at
        refused = sum(piece["count"] for piece in self._refused)
        self._ledger.resent(self._marked.series, count, refused, self._hidden)
        for k, more in enumerate((count - refused - self._hidden, refused, self._hidden)):
            self._totals[k] += more
        self._at = self._until
        self._key = self._parking.replace(self._key, self._refused, self._marked, self._at)
        self._done.set()
