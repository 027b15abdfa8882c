"""A gateway's side of the contract for tests of the Modbus adapter: keeps what is offered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from adapters.modbus import ADAPTER
from gateway.contract import Adapter, Batch, Gap, LinkLost, Origin, Point
from tests.support.fake_sink import FakeSink
from tests.support.own_time import OwnClock
from tests.support.wait import eventually


class Reading(NamedTuple):
    value: Any
    """None where there is no value"""
    status: int
    time_ns: int


class CollectingSink(FakeSink):
    """Checks each batch's shape and keeps the readings per point index."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: dict[int, list[Reading]] = {}

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> CollectingSink:
        await super().offer(batches, origin)
        for batch in batches:
            n = len(batch.points)
            assert n > 0
            assert batch.values.dtype == batch.type.dtype
            columns = (batch.values, batch.valid, batch.status, batch.source_time, batch.basis, batch.flags)
            assert all(column.shape == (n,) for column in columns)
            for i in range(n):
                value = batch.values[i] if batch.valid[i] else None
                value = value.item() if hasattr(value, "item") else value
                reading = Reading(value, int(batch.status[i]), int(batch.source_time[i]))
                self.readings.setdefault(int(batch.points[i]), []).append(reading)
        return self

    def gap(self, gap: Gap) -> str:
        raise AssertionError(f"unexpected {gap}")

    def last(self, index: int) -> Reading:
        return self.readings[index][-1]


def device_file(port: int, points: Sequence[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """A device file for 127.0.0.1 with a short timeout and period, as loaded from YAML."""
    content: dict[str, Any] = {"device": "dev", "adapter": "modbus", "every": "50ms", "points": list(points)}
    content["connection"] = {"url": f"tcp://127.0.0.1:{port}", "timeout": "300ms", **keys.pop("connection", {})}
    return {**content, **keys}


def build(content: dict[str, Any], first_index: int = 100) -> Adapter:
    """The adapter of a device file, on the loop's own time; its points get the indexes `first_index` and up."""
    config = ADAPTER.device_model.model_validate(content)
    points = [Point(first_index + i, point) for i, point in enumerate(config.points)]
    return ADAPTER.build(config, points, OwnClock())


@asynccontextmanager
async def running(adapter: Adapter, sink: CollectingSink) -> AsyncIterator[asyncio.Task[None]]:
    """Run an adapter for the length of the block."""
    task = asyncio.create_task(adapter.run(sink), name="adapter under test")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.done()


@asynccontextmanager
async def again_and_again(adapter: Adapter, sink: CollectingSink) -> AsyncIterator[None]:
    """A supervisor without patience: runs an adapter again whenever its link is lost, for the length of the block."""

    async def attempt() -> None:
        with suppress(LinkLost):
            await adapter.run(sink)

    async def work() -> None:
        while True:
            # A task of its own, as the gateway's supervisor has: a loss in the moment of a stop must not undo the stop.
            async with asyncio.TaskGroup() as group:
                group.create_task(attempt())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.done()


async def cycles(sink: CollectingSink, index: int, count: int, task: asyncio.Task[None]) -> None:
    """Wait for `count` readings of a point; fails at once with the adapter's own error if it ends."""

    def enough() -> bool:
        if task.done():
            task.result()
        return len(sink.readings.get(index, ())) >= count

    await eventually(enough, message=f"{count} readings of point {index}")
