"""The gateway is killed while OPC UA servers count: with a server that hands over subscriptions nothing is missing, and
with one that does not a gap says exactly what."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from simulators.centre.report import Reading, Report
from tests.support.interop import InteropServer, interop_server, old_server
from tests.support.rig import Delivery, GatewayProcess, write_yaml
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(900)  # five starts, and how long they take is up to the machine

COUNTERS = 50
PERIOD_MS = 250
"""well above the sampling interval: what the server itself does not sample is not what is tested"""
PUBLISHING_S = 0.2
KILLS = 4
START_S = 120.0
"""a machine with other work to do may take long to start a process"""
DEVICE = "reactor"


def device_file(server: InteropServer, **keys: Any) -> dict[str, Any]:
    points = [{"point": f"c{i}", "node": server.node(f"c{i}")} for i in range(COUNTERS)]
    # Two publishing intervals are two subscriptions.
    for point in points[COUNTERS // 2 :]:
        point["publishing"] = "300ms"
    return {
        "device": DEVICE,
        "adapter": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{server.port}", "timeout": "60s"},
        "subscribe": {"publishing": f"{PUBLISHING_S}s", "sampling": "50ms", "queue": "90s"},
        "points": points,
        **keys,
    }


def newest(delivery: Delivery, point: str) -> int:
    """The last value of a point at the centre, -1 before there is one."""
    with delivery.report() as report:
        return max((each.value for each in report.readings(DEVICE, point) if each.value is not None), default=-1)


async def kills(gateway: GatewayProcess, server: InteropServer, delivery: Delivery, down_s: float) -> list[int]:
    """Kill the running gateway again and again; at the end have everything at the centre. Returns the last values."""
    draw = random.Random(3)
    for _ in range(KILLS):
        said = gateway.output.count("connected")
        gateway.start()
        await eventually(lambda said=said: gateway.output.count("connected") > said, START_S, "it runs again")
        await eventually(lambda: note_is_complete(gateway), START_S, "there is something to lose")
        await asyncio.sleep(draw.uniform(1.5, 3.0))  # a random moment is what this test is about
        assert gateway.alive, gateway.output
        gateway.kill()
        await asyncio.sleep(down_s)
    gateway.start()
    before = newest(delivery, "c0")
    await eventually(lambda: newest(delivery, "c0") > before, START_S, "data after the last kill")
    final: list[int] = (await server.tell("pause"))["values"]
    for i in (0, COUNTERS - 1):
        await eventually(lambda i=i: newest(delivery, f"c{i}") == final[i], START_S, "the last values")
    await delivery.settled(gateway)
    assert await delivery.stop(gateway) == 0, gateway.output
    return final


def counted(report: Report, point: str) -> list[Reading]:
    """A point's readings that have a value, by time; of repetitions of a value at a standstill only the first."""
    readings = [each for each in report.readings(DEVICE, point) if each.value is not None]
    return sorted(readings, key=lambda each: (each.t_ns, each.n))


def assert_sound(report: Report) -> None:
    assert report.errors() == {}, report.error_samples()
    assert report.conflicts() == [], "one offset, one reading"
    assert report.missing() == [], "every offset came"
    assert report.reconcile().exact


async def test_kills_with_a_server_that_hands_over_subscriptions_lose_nothing(tmp_path: Path) -> None:
    async with interop_server(tmp_path, counters=COUNTERS, period_ms=PERIOD_MS) as server:
        with Delivery(tmp_path) as delivery:
            files = [device_file(server)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                final = await kills(gateway, server, delivery, 0.5)
                there = await server.tell("count")
        with delivery.report() as report:
            assert_sound(report)
            for i in range(COUNTERS):
                values = [each.value for each in counted(report, f"c{i}")]
                assert values == list(range(values[0], final[i] + 1)), f"c{i}: each value once, and none missing"
            gaps = report.gaps()
            assert len([gap for gap in gaps if gap.reason == "gateway-down"]) == KILLS
            assert [gap for gap in gaps if gap.missing] == []
            assert {gap.reason for gap in gaps} == {"gateway-down"}
    assert there["created"] == 2, "the same two subscriptions from the first start to the last"
    assert there["subscriptions"] == 0, "and a stop in good order deletes them"


def assert_gaps_tell_what_is_missing(report: Report, final: Sequence[int]) -> None:
    """Every value that did not come is inside of a gap, and gaps are no longer than what is missing."""
    spans = [span for gap in report.gaps() for span in gap.missing.get("c0", [])]
    for i in range(COUNTERS):
        readings = counted(report, f"c{i}")
        values = [each.value for each in readings]
        assert values == sorted(set(values)), f"c{i}: no value twice"
        assert values[-1] == final[i]
        holes = [(a, b) for a, b in itertools.pairwise(readings) if b.value != a.value + 1]
        assert len(holes) == KILLS, f"c{i}: {[(a.value, b.value) for a, b in holes]}"
        mine = [span for gap in report.gaps() for span in gap.missing.get(f"c{i}", [])]
        for last, first in holes:
            missing = first.value - last.value - 1
            step = (first.t_ns - last.t_ns) // (missing + 1)
            assert any(
                start is not None and end is not None and start < last.t_ns + step and first.t_ns - step < end
                for start, end in joined(mine)
            ), f"c{i}: {missing} values between {last.t_ns} and {first.t_ns} are in no gap of {mine}"
        for start, end in joined(mine):
            assert start is not None
            assert end is not None
            margin = round(1e9)
            # It ends with the first reading's arrival, which is late where a process is held up.
            assert any(
                last.t_ns - margin < start and end < max(first.t_ns, first.received_at) + margin
                for last, first in holes
            ), f"c{i}: nothing is missing from {start} to {end}"
    assert spans


def joined(spans: Sequence[tuple[int | None, int | None]]) -> list[tuple[int | None, int | None]]:
    """Overlapping spans as one."""
    made: list[tuple[int | None, int | None]] = []
    for start, end in sorted(spans, key=lambda span: (span[0] or 0, span[1] or 0)):
        if made and start is not None and made[-1][1] is not None and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end or 0))
        else:
            made.append((start, end))
    return made


async def test_kills_with_a_server_that_forgets_subscriptions_leave_gaps_that_say_what_is_missing(
    tmp_path: Path,
) -> None:
    async with old_server(counters=COUNTERS, period_ms=PERIOD_MS) as server:
        with Delivery(tmp_path) as delivery:
            files = [device_file(server)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                final = await kills(gateway, server, delivery, 0.5)
        with delivery.report() as report:
            assert_sound(report)
            assert_gaps_tell_what_is_missing(report, final)


async def test_kills_with_a_server_that_refuses_to_hand_over_subscriptions(tmp_path: Path) -> None:
    """It keeps them until their lifetime ends: that is the server's choice, and not ours to change."""
    options = {"counters": COUNTERS, "period_ms": PERIOD_MS, "no_transfer": "BadUserAccessDenied"}
    async with interop_server(tmp_path, **options) as server:
        with Delivery(tmp_path) as delivery:
            files = [device_file(server)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                final = await kills(gateway, server, delivery, 0.5)
        with delivery.report() as report:
            assert_sound(report)
            assert_gaps_tell_what_is_missing(report, final)


async def test_a_changed_device_file_after_a_crash_leaks_no_subscription(tmp_path: Path) -> None:
    async with interop_server(tmp_path, counters=COUNTERS, period_ms=PERIOD_MS) as server:
        with Delivery(tmp_path) as delivery:
            files = [device_file(server)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                gateway.start()
                await eventually(lambda: newest(delivery, "c0") > 0, START_S, "first data")
                await eventually(lambda: note_is_complete(gateway), START_S)
                gateway.kill()
                changed = device_file(server)
                changed["subscribe"]["sampling"] = "100ms"
                write_yaml(gateway.config / "devices" / f"{DEVICE}.yaml", changed)
                said = gateway.output.count("connected")
                gateway.start()
                await eventually(lambda: gateway.output.count("connected") > said, START_S)
                await eventually(lambda: _subscriptions(server, 2), START_S, "the two old ones are deleted")
                assert await delivery.stop(gateway) == 0, gateway.output
                assert (await server.tell("count"))["subscriptions"] == 0


def note_is_complete(gateway: GatewayProcess) -> bool:
    return gateway.output.count("subscribed to") >= 2


async def _subscriptions(server: InteropServer, wanted: int) -> bool:
    there = await server.tell("count")
    return bool(there["subscriptions"] == wanted and there["created"] > wanted)
