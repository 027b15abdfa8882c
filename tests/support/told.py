"""The gateway in the test's own process, with an adapter that does what the test tells it to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.config import load_config
from gateway.contract import Adapter, Clock, DeviceConfig, Facts, LinkLost, Point, Sink, SystemClock
from gateway.runtime.gateway import Gateway
from tests.support.rig import GatewayProcess


class Stepping(SystemClock):
    """A wall clock that a test puts forward."""

    ahead = 0

    def time_ns(self) -> int:
        return super().time_ns() + self.ahead


class Told:
    """An adapter that does what the test tells it to do with its sink."""

    name = "told"
    device_model = DeviceConfig

    def __init__(self) -> None:
        self.sinks: asyncio.Queue[Sink] = asyncio.Queue(10)
        self.lose = asyncio.Event()

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        return self

    async def run(self, sink: Sink) -> None:
        await self.sinks.put(sink)
        self.lose.clear()
        await self.lose.wait()
        raise LinkLost("the test pulled the cable")

    def facts(self) -> Facts:
        return Facts(clock_offset_s=0.125, bridged_s=30.0, lost_copies=4)


@asynccontextmanager
async def running(process: GatewayProcess, adapter: Told, clock: Clock) -> AsyncIterator[None]:
    """The gateway of a config in this process, with the test's adapter."""
    config = load_config(process.config, adapters={"told": adapter}, for_run=True)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(Gateway(config, clock).run(stop), name="gateway")
        try:
            yield
        finally:
            stop.set()
