"""What an adapter tells beside readings, over the whole path: gateway, broker, centre, metrics, the next process."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.config import load_config
from gateway.contract import (
    Adapter,
    Batch,
    Clock,
    DeviceConfig,
    Facts,
    Filled,
    Gap,
    LinkLost,
    Origin,
    Point,
    Remembered,
    Sink,
    SystemClock,
    ValueType,
)
from gateway.runtime.gateway import Gateway
from simulators.centre.report import Report
from tests.support.rig import Delivery, GatewayProcess, write_yaml
from tests.support.wait import eventually

STATES = {0: "Closed", 1: "Open"}


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


def batch(*points: int, value: int = 1) -> Batch:
    now = SystemClock()
    values = [value] * len(points)
    return Batch.of(
        "valves", ValueType.INT64, list(points), values, received_time=now.time_ns(), monotonic=now.monotonic_ns()
    )


async def ask(process: GatewayProcess, path: str) -> dict[str, Any]:
    def get() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.metrics_port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    found: dict[str, Any] = orjson.loads(await asyncio.to_thread(get))
    return found


async def seen(delivery: Delivery, condition: Callable[[Report], Any], message: str) -> None:
    def asked() -> bool:
        with delivery.report() as report:
            return bool(condition(report))

    await eventually(asked, 20, message)


def device() -> dict[str, Any]:
    return {"device": "valves", "adapter": "told", "points": [{"point": "a"}, {"point": "b"}]}


async def test_what_an_adapter_tells_reaches_whom_it_concerns(tmp_path: Path) -> None:
    clock, adapter = Stepping(), Told()
    with Delivery(tmp_path) as delivery:
        process = GatewayProcess(tmp_path, [device()], destinations=[delivery.destination()])
        async with running(process, adapter, clock):
            sink = await adapter.sinks.get()
            assert sink.remembered() is None
            assert sink.commit_s == 0.05
            sink.online()
            await sink.offer([batch(0, 1)])

            sink.describe({0: STATES, 1: STATES})
            await sink.offer([batch(0)])
            await seen(delivery, lambda r: "enum" in r.catalogue("valves").get(1, {}), "texts in the catalogue")

            sink.degraded("the server says Suspended")
            assert (await ask(process, "/readyz"))["not_well"] == {"valves": "degraded: the server says Suspended"}
            metrics = await asyncio.to_thread(process.metrics)
            labels = (("adapter", "told"), ("device", "valves"))
            assert metrics["edge_gateway_device_up"][labels] == 1
            assert metrics["edge_gateway_devices"][("adapter", "told"), ("state", "degraded")] == 1
            assert metrics["edge_gateway_device_clock_offset_seconds"][labels] == 0.125
            assert metrics["edge_gateway_bridged_seconds"][(("adapter", "told"),)] == 30.0
            assert metrics["edge_gateway_lost_copies_total"][(("adapter", "told"),)] == 4

            overflow = sink.gap(Gap((0,), 10**9, 2 * 10**9, "overflow"))
            adapter.lose.set()
            sink = await adapter.sinks.get()
            outage = sink.outage()
            assert outage is not None
            assert outage.start is not None
            await sink.offer([batch(0, 1, value=0)])
            sink.filled(Filled(outage.id, outage.start, clock.time_ns(), None))
            await seen(delivery, lambda r: len(r.gaps()) == 2 and r.events("gap-filled/1"), "gaps, one of them filled")
            with delivery.report() as report:
                assert {gap.id: bool(gap.missing) for gap in report.gaps()} == {overflow: True, outage.id: False}

            clock.ahead = 3600 * 10**9
            await seen(delivery, lambda r: r.events("clock/1"), "the clock's step")

            await (await sink.remember({"subscriptions": [7]})).durable()
            await (await sink.offer([batch(0)], Origin("urn:s", 7, 41))).durable()
        with delivery.report() as report:
            (step,) = report.events("clock/1")
            assert abs(step["step_ns"] - 3600 * 10**9) < 10**9
            assert report.catalogue("valves")[0]["enum"] == {"0": "Closed", "1": "Open"}
            assert report.errors() == {}, report.error_samples()
            assert report.conflicts() == []
    await stopped_and_started(process, clock)


async def stopped_and_started(process: GatewayProcess, clock: Clock) -> None:
    """The next process on the same log is told what this one left."""
    again = Told()
    write_yaml(process.config / "gateway.yaml", {**process.content, "destinations": []})
    async with running(process, again, clock):
        sink = await again.sinks.get()
        assert sink.remembered() == Remembered({"subscriptions": [7]}, (Origin("urn:s", 7, 41),))
