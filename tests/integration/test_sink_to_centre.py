"""What an adapter tells beside readings, over the whole path: gateway, broker, centre, metrics, the next process."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from gateway.contract import (
    Batch,
    Clock,
    Filled,
    Gap,
    Origin,
    Remembered,
    SystemClock,
    ValueType,
)
from simulators.centre.report import Report
from tests.support.rig import START_S, Delivery, GatewayProcess, write_yaml
from tests.support.told import Stepping, Told, running
from tests.support.wait import eventually

STATES = {0: "Closed", 1: "Open"}


def batch(*points: int, value: int = 1) -> Batch:
    now = SystemClock()
    values = [value] * len(points)
    return Batch.of(
        "valves", ValueType.INT64, list(points), values, received_time=now.time_ns(), monotonic=now.monotonic_ns()
    )


async def ask(process: GatewayProcess, path: str) -> dict[str, Any]:
    def get() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.metrics_port}{path}", timeout=START_S) as answer:
            body: bytes = answer.read()
            return body

    found: dict[str, Any] = orjson.loads(await asyncio.to_thread(get))
    return found


async def seen(delivery: Delivery, condition: Callable[[Report], Any], message: str) -> None:
    def asked() -> bool:
        with delivery.report() as report:
            return bool(condition(report))

    await eventually(asked, START_S, message)


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
