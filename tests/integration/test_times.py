"""Times of a real server that cannot be, and times in local time: what the centre has, and what an engineer is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asyncua import ua

from adapters.opcua.adapter import OpcUaAdapter
from gateway.contract import Basis, Flag, Point, SystemClock
from simulators.plant.opcua import OpcUaDevice
from tests.support.opcua_rig import KeepingSink, all_heard, device, running
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually

HOUR = 3600 * 10**9


def ns(text: str) -> int:
    """A time as ns since 1970, of any year."""
    since = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC) - datetime.datetime(
        1970, 1, 1, tzinfo=datetime.UTC
    )
    return since // datetime.timedelta(microseconds=1) * 1000


ODD_TIMES: dict[str, tuple[int | None, str | None]] = {
    "NoTime": (None, None),
    "Year1601": (ns("1601-01-01T00:00:00"), None),
    "JustAfter": (ns("1601-01-01T00:00:00.000001"), "1601-01-01T00:00:00.000001Z"),
    "Year1970": (0, "1970-01-01T00:00:00Z"),
    "Year1999": (ns("1999-12-31T23:59:59.5"), "1999-12-31T23:59:59.5Z"),
    "FarFuture": (ns("2100-01-01T00:00:00"), "2100-01-01T00:00:00Z"),
    "BeyondNs": (ns("2300-06-01T12:00:00"), "2300-06-01T12:00:00Z"),
    "Year9999": (ns("9999-12-31T23:59:59"), "9999-12-31T23:59:59Z"),
}
"""source time and the original that the centre has; the first in 1601 is how OPC UA says that there is none"""


@pytest.mark.parametrize("format", ["json", "columns"])
async def test_times_that_cannot_be_arrive_beside_those_taken(tmp_path: Path, format: str) -> None:
    nodes = dict.fromkeys(("Right", *ODD_TIMES), (ua.VariantType.Double, 0.0))
    async with OpcUaDevice(nodes) as plant:
        file = {
            "device": "reactor",
            "adapter": "opcua",
            "connection": {"url": plant.url, "timeout": "60s"},
            "subscribe": {"publishing": "100ms", "sampling": "100ms"},
            "points": [{"point": name, "node": plant.node_text(name)} for name in nodes],
        }
        with Delivery(tmp_path) as delivery:
            with GatewayProcess(tmp_path, [file], destinations=[delivery.destination(format=format)]) as gateway:
                gateway.start()
                await eventually(lambda: arrived(delivery) >= len(nodes), START_S, "first values")
                before = time.time_ns()
                await plant.write("Right", 1.0, source_time_ns=before)
                for name, (stamp, _) in ODD_TIMES.items():
                    await plant.write(name, 1.0, source_time_ns=stamp, source_time=stamp is not None)
                await eventually(lambda: arrived(delivery) >= 2 * len(nodes), START_S, "the changes")
                # The clock watch looks at a batch now and then: the same times again, until it has seen some.
                for again in range(100):
                    await plant.write("Year1970", 2.0 + again, source_time_ns=0)
                    with contextlib.suppress(AssertionError):
                        await eventually(lambda: told(gateway), 0.5)
                        break
                assert await delivery.stop(gateway) == 0, gateway.output
                check(delivery, before)
                assert told(gateway) == 1
            with delivery.report() as report:
                assert report.reconcile().exact, report.error_samples()


def arrived(delivery: Delivery) -> int:
    with delivery.report() as report:
        return sum(reading.quality == "good" for reading in report.readings("reactor"))


def told(gateway: GatewayProcess) -> int:
    return gateway.output.count("times that are not credible")


def check(delivery: Delivery, before: int) -> None:
    with delivery.report() as report:
        for name, (_, original) in ODD_TIMES.items():
            first, changed, *_ = (reading for reading in report.readings("reactor", name) if reading.quality == "good")
            assert (first.value, first.basis, first.original) == (0.0, Basis.SOURCE, None), name
            assert (changed.value, changed.basis, changed.original) == (1.0, Basis.SERVER, original), name
            assert before <= changed.t_ns < before + 20 * 10**9
        right = report.readings("reactor", "Right")[-1]
        assert (right.t_ns // 1000, right.basis, right.original) == (before // 1000, Basis.SOURCE, None)


SETTLE_S = 1.0
CHANGES = 120
"""50 ms apart at least: six times the settling time"""
NODES = ["Level", "Flow"]


def adapter_of(plant: OpcUaDevice, **keys: Any) -> OpcUaAdapter:
    config = device(plant.port, [plant.node_text(name) for name in NODES], **keys)
    points = [Point(index, point) for index, point in enumerate(config.points)]
    return OpcUaAdapter(config, points, SystemClock(), settle_s=SETTLE_S)


async def change(plant: OpcUaDevice, shift: int, stop: asyncio.Event) -> list[tuple[float, int]]:
    """Write new values until told to stop, stamped with local time; (value, true time in ns) of each."""
    written: list[tuple[float, int]] = []
    while not stop.is_set():
        now = time.time_ns() // 1000 * 1000
        written.append((float(len(written) + 1), now))
        await plant.write("Level", written[-1][0], source_time_ns=now + shift)
        await asyncio.sleep(0.05)
    return written


class Acquired(NamedTuple):
    """Readings over several times the settling time."""

    sink: KeepingSink
    written: list[tuple[float, int]]
    offset_s: float | None
    """the metric of the clock offset, while connected"""


async def acquire(adapter: OpcUaAdapter, plant: OpcUaDevice, shift: int) -> Acquired:
    sink, stop = KeepingSink(), asyncio.Event()
    async with running(adapter, sink) as task:
        await all_heard(sink, task, len(NODES))
        writer = asyncio.create_task(change(plant, shift, stop))
        try:
            await eventually(lambda: task.done() or len(sink.values(0)) > CHANGES, 60, "readings")
        finally:
            stop.set()
        written = await writer
        await eventually(lambda: task.done() or written[-1][0] in sink.values(0), 20, "the last value")
        if task.done():
            task.result()
        offset_s = adapter.facts().clock_offset_s
    return Acquired(sink, written, offset_s)


def clock_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "adapters.opcua.adapter"]


async def test_local_time_is_told_once_and_every_reading_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with OpcUaDevice(dict.fromkeys(NODES, (ua.VariantType.Double, 0.0))) as plant:
        sink, written, _ = await acquire(adapter_of(plant), plant, 8 * HOUR)
    (line,) = clock_lines(caplog)
    assert line.startswith("reactor: source times are 8.0 h ahead of this gateway's clock")
    assert 'set `clock: "shift: 8h"`' in line
    assert "the server's own clock is right, so it is what stamps the values behind it" in line
    changes = [reading for reading in sink.readings(0) if not reading.flags & Flag.INITIAL]
    assert [(reading.value, reading.time) for reading in changes] == [(value, at + 8 * HOUR) for value, at in written]


async def test_with_the_shift_times_are_right_and_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with OpcUaDevice(dict.fromkeys(NODES, (ua.VariantType.Double, 0.0))) as plant:
        adapter = adapter_of(plant, clock="shift: 8h")
        sink, written, offset = await acquire(adapter, plant, 8 * HOUR)
    assert clock_lines(caplog) == []
    changes = [reading for reading in sink.readings(0) if not reading.flags & Flag.INITIAL]
    assert [(reading.value, reading.time) for reading in changes] == written
    assert offset is not None, "the server tells its time"
    assert abs(offset) < 3, "asyncua brings CurrentTime up to date once a second"
