"""The gateway is killed beside a server that hands over no subscription but has a history: nothing is missing after."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.contract import Flag
from simulators.centre.report import Reading, Report
from tests.support.interop import InteropServer, interop_server
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually

COUNTERS = 20
DEVICE = "reactor"
DOWN_S = 3.0


def device_file(server: InteropServer) -> dict[str, Any]:
    return {
        "device": DEVICE,
        "adapter": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{server.port}", "timeout": "60s"},
        "subscribe": {"publishing": "200ms", "sampling": "50ms", "queue": "1s"},
        "backfill": True,
        "points": [{"point": f"c{i}", "node": server.node(f"c{i}")} for i in range(COUNTERS)],
    }


def newest(delivery: Delivery) -> dict[str, int]:
    """The highest value of each point at the centre."""
    found: dict[str, int] = {}
    with delivery.report() as report:
        for reading in report.readings(DEVICE):
            if reading.value is not None:
                found[reading.point] = max(found.get(reading.point, 0), reading.value)
    return found


def filled(delivery: Delivery) -> set[str]:
    """Ids of gaps that were told to be filled."""
    with delivery.report() as report:
        return {event["id"] for event in report.events("gap-filled/1")}


def down(delivery: Delivery) -> set[str]:
    """Ids of the gaps of the gateway's own absence."""
    with delivery.report() as report:
        return {gap.id for gap in report.gaps() if gap.reason == "gateway-down"}


async def test_a_killed_gateway_fills_its_own_gap_from_history(tmp_path: Path) -> None:
    options = {"counters": COUNTERS, "period_ms": 100, "history": 10_000, "no_transfer": "BadUserAccessDenied"}
    async with interop_server(tmp_path, **options) as server:
        with (
            Delivery(tmp_path) as delivery,
            GatewayProcess(tmp_path, [device_file(server)], destinations=[delivery.destination()]) as gateway,
        ):
            gateway.start()
            await eventually(lambda: newest(delivery).get(f"c{COUNTERS - 1}", 0) > 10, START_S, "live readings")
            gateway.kill()
            before: list[int] = (await server.tell("run"))["values"]
            await asyncio.sleep(DOWN_S)  # the outage that this test is about
            after: list[int] = (await server.tell("run"))["values"]
            gateway.start()
            await eventually(
                lambda: down(delivery) and down(delivery) <= filled(delivery), START_S, "the gap is filled"
            )
            final: list[int] = (await server.tell("pause"))["values"]
            await eventually(lambda: list(newest(delivery).values()) == final, START_S, "the last values")
            await delivery.settled(gateway)
            assert await delivery.stop(gateway) == 0, gateway.output
        with delivery.report() as report:
            assert report.errors() == {}, report.error_samples()
            assert report.missing() == []
            assert report.reconcile().exact
            for i in range(COUNTERS):
                assert_whole(report, f"c{i}", range(before[i] + 1, after[i] + 1), final[i])
            assert [gap.missing for gap in report.gaps() if gap.reason == "gateway-down"] == [{}]


def assert_whole(report: Report, point: str, outage: range, final: int) -> None:
    """Each value once, those of the outage marked, and live and past ones each in their order."""
    readings = [reading for reading in report.readings(DEVICE, point) if reading.value is not None]
    values = sorted(reading.value for reading in readings)
    assert values == list(range(values[0], final + 1)), point
    past = [reading for reading in readings if reading.flags & Flag.BACKFILLED]
    assert outage, "the server counted meanwhile"
    assert {reading.value for reading in past} >= set(outage), point
    for each in (past, [reading for reading in readings if reading not in past]):
        assert times(each) == sorted(times(each)), point
    live = [reading for reading in readings if reading not in past]
    assert {reading.lane for reading in readings} <= {"live", "backlog"}
    assert max(times(past)) < max(times(live))


def times(readings: list[Reading]) -> list[int]:
    return [reading.t_ns for reading in readings]
