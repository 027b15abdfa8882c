"""The gateway's side of the adapter contract for tests of adapters: one sink that keeps what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.contract import Batch, Filled, Gap, OpenGap, Origin, Remembered, Sink


class FakeSink:
    """Implements the whole of `gateway.contract.Sink`, and is the receipt of everything that it is offered.

    `commit` makes receipts durable and `room` grants memory, each as long as it is set. `left` and `open` are what
    `remembered` and `outage` say; as in the gateway, the first data ends an outage.
    """

    def __init__(self, left: Remembered | None = None, open: OpenGap | None = None) -> None:
        self.commit = asyncio.Event()
        self.commit.set()
        self.room = asyncio.Event()
        self.room.set()
        self.commit_s = 0.2
        self.blocked = 0
        """offers that wait for room"""
        self.left = left
        self.open = open
        self.offers: list[tuple[Sequence[Batch], Origin | None]] = []
        self.onlines = 0
        self.conditions: list[str | None] = []
        """what `degraded` was told"""
        self.gaps: list[Gap] = []
        """the n-th has the id gap-n, from 0"""
        self.fills: list[Filled] = []
        self.notes: list[dict[str, Any]] = []
        self.enumerations: dict[int, dict[int, str]] = {}

    @property
    def batches(self) -> list[Batch]:
        """Everything offered, in order."""
        return [batch for batches, _ in self.offers for batch in batches]

    @property
    def origins(self) -> list[Origin | None]:
        """Of each offer, in order."""
        return [origin for _, origin in self.offers]

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> FakeSink:
        assert batches
        self.blocked += 1
        try:
            await self.room.wait()
        finally:
            self.blocked -= 1
        self.offers.append((batches, origin))
        self.open = None
        return self

    async def durable(self) -> None:
        await self.commit.wait()

    def online(self) -> None:
        self.onlines += 1

    def degraded(self, why: str | None) -> None:
        self.conditions.append(why)

    def gap(self, gap: Gap) -> str:
        self.gaps.append(gap)
        return f"gap-{len(self.gaps) - 1}"

    def outage(self) -> OpenGap | None:
        return self.open

    def filled(self, filled: Filled) -> None:
        self.fills.append(filled)

    async def remember(self, note: Mapping[str, Any]) -> FakeSink:
        self.notes.append(dict(note))
        return self

    def remembered(self) -> Remembered | None:
        return self.left

    def describe(self, enumerations: Mapping[int, Mapping[int, str]]) -> None:
        self.enumerations.update({index: dict(texts) for index, texts in enumerations.items()})


def _implements(sink: FakeSink) -> Sink:
    """For the type checker: this is the whole protocol."""
    return sink
