"""The request budget on the wire: start, publishing, a cut and the resume, with 2,000 points; another parser counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fault.test_opcua_life import Device
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import PUBLISH, OpcUaWire
from tests.support.wait import eventually
from tests.unit.opcua.test_pace import most_in_a_second

POINTS = 2000
CREATE_SESSION, CLOSE_SESSION, CREATE_ITEMS, READ = 461, 473, 751, 631

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("budget")
    async with interop_server(folder, counters=POINTS, period_ms=200, limits={"maxMonitoredItemsPerCall": 100}) as made:
        yield made


def supervised(server: InteropServer, wire: OpcUaWire, load: dict[str, Any]) -> Device:
    nodes = [server.node(f"c{i}") for i in range(POINTS)]
    subscribe = {"publishing": "100ms", "sampling": "100ms", "queue": "10s"}
    return Device("reactor", device(wire.port, nodes, subscribe=subscribe, load=load))


@pytest.mark.parametrize(
    ("load", "rate"), [({}, 100), ({"requests_per_s": 15}, 15), ({"requests_per_s": 11}, 11)], ids=["100", "15", "11"]
)
async def test_no_second_sees_more_requests_than_the_budget(
    server: InteropServer, load: dict[str, Any], rate: float
) -> None:
    # Client and wire share the loop, and its time.
    async with OpcUaWire("127.0.0.1", server.port, clock=asyncio.get_running_loop().time) as wire:
        one = supervised(server, wire, load)
        task = asyncio.create_task(one.supervisor.run(one, 0))  # type: ignore[arg-type]
        try:
            # 20 batches of 100 items, beside live data that take nearly all of the smallest budget.
            await eventually(lambda: len(one.heard()) == POINTS, 60, "all points have data")
            await all_fresh(one, 60)
            wire.cut()
            await eventually(lambda: one.state.state == "down")
            await all_fresh(one, 60)
            assert one.gaps == []
            beats = wire.count(READ)
            await eventually(lambda: wire.count(READ) > beats, 20, "the session is kept alive")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        times = [request.at for request in wire.requests]
        assert most_in_a_second(times) <= rate + 1
        counted = Counter(request.type_id for request in wire.requests)
        assert counted[CREATE_ITEMS] == POINTS / 100
        assert counted[CREATE_SESSION] == counted[CLOSE_SESSION] == 1, "goodbye is within the budget, and said"
        assert counted[PUBLISH] > len(times) / 4
        wire.assert_read_only()


async def all_fresh(one: Device, within_s: float) -> None:
    """Wait until each point has a value that the server made after this call."""
    before, seen = time.time_ns(), len(one.offers)

    def fresh() -> bool:
        batches = [batch for batches, _ in one.offers[seen:] for batch in batches]
        return len({p for b in batches for p in b.points[(b.source_time > before) & b.valid]}) == POINTS

    await eventually(fresh, within_s, f"new values of all points, {one.state}")
