"""Power cuts: the gateway is killed at random moments while the broker comes and goes; nothing accepted is missing."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.contract import SystemClock
from gateway.log import LogStore
from gateway.log.records import Series
from simulators.centre.report import Source
from simulators.plant.modbus import ModbusDevice
from tests.support.rig import Delivery, GatewayProcess
from tests.support.wait import eventually

KILLS = 20
POINTS = 60


def device_file(url: str) -> dict[str, Any]:
    points = [{"point": f"p{index}", "address": f"holding {index}", "type": "uint16"} for index in range(POINTS)]
    return {"device": "counter", "adapter": "modbus", "connection": {"url": url}, "every": "20ms", "points": points}


@asynccontextmanager
async def counting_device() -> AsyncIterator[ModbusDevice]:
    """A device whose registers all change together, every 10 ms."""
    async with ModbusDevice({"holding": dict.fromkeys(range(POINTS), 0)}) as device, asyncio.TaskGroup() as group:

        async def count() -> None:
            for tick in range(1 << 30):
                device.write("holding", 0, [tick & 0xFFFF] * POINTS)
                await asyncio.sleep(0.01)

        task = group.create_task(count(), name="counting")
        yield device
        task.cancel()


def accepted_by_the_log(gateway: GatewayProcess) -> dict[Series, int]:
    """Offsets that the log itself says it has given, read after everything has stopped."""
    store, recovery = LogStore.open(gateway.log, identity="91370200MA3C00000K/reader", clock=SystemClock())
    store.close()
    return recovery.next_n


async def test_twenty_random_kills_lose_nothing(tmp_path: Path) -> None:
    draw = random.Random(20)
    async with counting_device() as device:
        with Delivery(tmp_path) as delivery:
            files = [device_file(device.url)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination(format="columns")]) as gateway:
                for round_number in range(KILLS):
                    if round_number % 2 == 0:
                        await asyncio.to_thread(delivery.broker.kill)
                    said = gateway.output.count("connected")
                    gateway.start()
                    if round_number % 5:  # the others die while they start
                        await eventually(lambda: gateway.output.count("connected") > said, 20, "it runs again")  # noqa: B023
                    await asyncio.sleep(draw.uniform(0.0, 0.6))  # a random moment is what this test is about
                    assert gateway.alive, gateway.output
                    gateway.kill()
                    await asyncio.to_thread(delivery.broker.start)
                gateway.start()
                await delivery.settled(gateway, 60)
                assert await delivery.stop(gateway) == 0, gateway.output
                check(delivery, gateway)


def check(delivery: Delivery, gateway: GatewayProcess) -> None:
    with delivery.report() as report:
        assert report.errors() == {}, report.error_samples()
        assert report.conflicts() == [], "one offset, one reading: duplicates are recognisable by offset alone"
        assert report.missing() == []
        reconciliation = report.reconcile()
        assert reconciliation.exact, reconciliation
        counts = {count.source: count for count in report.counts()}
        log = accepted_by_the_log(gateway)
        assert log, "the log knows what it accepted"
        for series, next_n in log.items():
            source = Source("91370200MA3C00000K", "gw-1", series.stream, series.device)
            assert (counts[source].stored, counts[source].last_n) == (next_n, next_n - 1), source
        gaps = [event for event in report.events("gap/1") if event["reason"] == "gateway-down" and event["to"]]
        assert len(gaps) >= KILLS / 2, "each dead time is a gap event"
        print_result(report, log)


def print_result(report: Any, log: dict[Series, int]) -> None:
    copies = sum(count.copies for count in report.counts())
    streams = len({series.stream for series in log})
    accepted = sum(log.values())
    sys.stdout.write(f"{KILLS} kills: {accepted} accepted and stored; {copies} came twice; {streams} streams\n")
