"""One device with a scripted archive and no live server: live readings are a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncua import ua

from adapters.opcua.config import ClockRule
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.history.backfill import Backfill
from adapters.opcua.history.gaps import GapLedger
from gateway.contract import Batch, Filled, Flag, OpenGap, Origin, SystemClock, ValueType
from tests.support.fake_sink import FakeSink
from tests.support.opcua_archive import EPOCH, Archive, node, value
from tests.support.wait import eventually

BASE = int(EPOCH.timestamp()) * 10**9
S = 10**9


class Device:
    """One device without a live server: a test offers live readings itself."""

    def __init__(self, archive: Archive, rule: ClockRule = "trust", types: dict[int, int] | None = None) -> None:
        self.archive = archive
        self.clock = Clock()
        names = dict(enumerate(archive.values))
        self.builder = BatchBuilder("reactor", types or dict.fromkeys(names, layouts.NULL), rule, 0)
        self.ledger = GapLedger("reactor", names, (0.01,), self.clock)
        self.behind = FakeSink()
        self.sink = self.ledger.watch(self.behind)
        self.backfill = Backfill(
            "reactor", self.ledger, self.builder, rule, self.clock, Structures(), names.__getitem__
        )
        self.nodes = {index: node(name) for index, name in names.items()}

    @asynccontextmanager
    async def connected(self, **limits: Any) -> AsyncIterator[asyncio.Task[None]]:
        """One connection; cancelled on leaving."""
        session = self.archive.session(**limits)
        task = asyncio.create_task(self.backfill.run(session, self.behind, self.nodes.get), name="backfill")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def live(self, second: float, *points: int) -> None:
        """A live reading of each of the points, by default of all."""
        batch = Batch.of(
            "reactor",
            ValueType.FLOAT64,
            points or list(self.nodes),
            second,
            source_time=BASE + round(second * S),
            received_time=self.clock.time_ns(),
            monotonic=0,
        )
        await self.sink.offer([batch], Origin("urn:s", 1, 1))

    async def outage(self, start: float, end: float) -> None:
        """Live readings until `start` and from `end` on."""
        await self.live(start)
        self.behind.open = OpenGap("down", BASE + round(start * S), "device-down")
        await self.live(end)

    def backfilled(self, point: int = 0) -> list[tuple[float, Any]]:
        """(second, value) of what came from history, in order."""
        found: list[tuple[float, Any]] = []
        for batch in self.behind.batches:
            past = batch.take((batch.flags & Flag.BACKFILLED > 0) & (batch.points == point))
            found += zip(((past.source_time - BASE) / S).tolist(), past.values.tolist(), strict=True)
        return found

    async def filled(self, count: int = 1) -> list[Filled]:
        """What was told, when so much was."""
        await eventually(lambda: len(self.behind.fills) >= count, message="told that the gap was filled")
        return self.behind.fills


class Clock(SystemClock):
    """The time is that of the archive; what settles, settles a hundred times faster."""

    def time_ns(self) -> int:
        return BASE + 3600 * S

    def monotonic_ns(self) -> int:
        return 100 * super().monotonic_ns()


def counted(count: int) -> list[ua.DataValue]:
    return [value(float(n), n) for n in range(count)]
