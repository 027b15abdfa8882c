"""The adapter against node-opcua, an implementation that shares no code with ours or with our library."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adapters.opcua.tools import OpcUaTools
from gateway.contract import ValueType
from gateway.contract.tools import BrowseQuery, Kind, Target
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import slowdown
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

CREATE_MONITORED_ITEMS = 751
BAD_SENSOR_FAILURE = 0x808C0000
UNCERTAIN_LAST_USABLE_VALUE = 0x40900000
COUNTERS = 5_000
FIRST_DATA_S = 5.0
LIMITS = {"maxMonitoredItemsPerCall": 100, "maxNodesPerRead": 100, "maxNodesPerBrowse": 50}

# A server takes seconds to start, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    async with interop_server(
        tmp_path_factory.mktemp("interop"), counters=COUNTERS, quiet_time=True, limits=LIMITS
    ) as made:
        yield made


async def assert_within_limits(server: InteropServer, sessions: int = 1) -> dict[str, int]:
    """By the server's own count no call was too large; returns how many calls of each service there were."""
    seen = await server.tell("seen")
    services = seen["services"]
    for service, limit in [
        ("CreateMonitoredItems", "maxMonitoredItemsPerCall"),
        ("Read", "maxNodesPerRead"),
        ("Browse", "maxNodesPerBrowse"),
    ]:
        assert services.get(service, {"most": 0})["most"] <= LIMITS[limit], service
    assert seen["sessions"] <= sessions
    return {service: calls["calls"] for service, calls in services.items()}


async def test_bad_and_uncertain_values(server: InteropServer) -> None:
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, [server.node("c0")])), sink) as task:
        await all_heard(sink, task, 1)
        await server.tell("set", node="c0", value=7, status="UncertainLastUsableValue")
        await eventually(lambda: len(sink.readings(0)) == 2)
        await server.tell("set", node="c0", status="BadSensorFailure")
        await eventually(lambda: len(sink.readings(0)) == 3)
        await server.tell("set", node="c0", value=8)
        await eventually(lambda: len(sink.readings(0)) == 4)
    _, uncertain, bad, good = sink.readings(0)
    assert (uncertain.value, uncertain.status) == (7, UNCERTAIN_LAST_USABLE_VALUE)
    assert bad.status == BAD_SENSOR_FAILURE
    assert bad.type == ValueType.INT64
    assert (good.value, good.status) == (8, 0)
    assert uncertain.time <= bad.time <= good.time
    await server.tell("seen")


async def first_data_s(server: InteropServer, count: int) -> float:
    """Seconds from nothing to a value of each of `count` points, within the server's limits."""
    await server.tell("seen")
    async with OpcUaWire("127.0.0.1", server.port) as wire:
        sink = KeepingSink()
        nodes = [server.node(f"c{i}") for i in range(count)]
        started = time.monotonic()
        adapter = adapter_of(device(wire.port, nodes, subscribe={"sampling": "1s", "publishing": "500ms"}))
        async with running(adapter, sink) as task:
            await all_heard(sink, task, count, 30)
            took_s = time.monotonic() - started
            await eventually(wire.acknowledged)
        wire.assert_read_only()
        assert wire.connections == 1
        assert wire.count(CREATE_MONITORED_ITEMS) == count // LIMITS["maxMonitoredItemsPerCall"]
    assert sink.gaps == []
    calls = await assert_within_limits(server)
    assert calls["CreateMonitoredItems"] == count // LIMITS["maxMonitoredItemsPerCall"], "none was refused and split"
    return took_s


@pytest.mark.parametrize("count", [1_000, COUNTERS])
async def test_first_data_within_operation_limits_and_five_seconds(server: InteropServer, count: int) -> None:
    took: list[tuple[float, float]] = []
    while not took or (took[-1][0] >= FIRST_DATA_S * took[-1][1] and len(took) < 3):
        slower = slowdown()
        took.append((await first_data_s(server, count), slower))
    assert took[-1][0] < FIRST_DATA_S * took[-1][1], f"first data of {count} items, (seconds, slowdown): {took}"


async def test_browse_within_operation_limits(server: InteropServer) -> None:
    await server.tell("seen")
    target = Target(f"opc.tcp://127.0.0.1:{server.port}", requests_per_s=1000)
    browsed = await OpcUaTools().browse(target, BrowseQuery(path="Interop/c*"))
    assert browsed.problems == ()
    found = {item.address for item in browsed.items if item.kind == Kind.VALUE}
    assert found == {server.node(f"c{i}") for i in range(COUNTERS)} | {server.node("Cube")}
    calls = await assert_within_limits(server)
    assert sum(calls.values()) < COUNTERS / 10, f"never one call per node: {calls}"
    assert calls.keys() <= {"CreateSession", "ActivateSession", "CloseSession", "Browse", "BrowseNext", "Read"}


async def test_units_and_ranges(server: InteropServer) -> None:
    target = Target(f"opc.tcp://127.0.0.1:{server.port}", requests_per_s=1000)
    browsed = await OpcUaTools().browse(target, BrowseQuery(path="Interop/Level"))
    (level,) = [item for item in browsed.items if item.kind == Kind.VALUE]
    assert (level.unit, level.low, level.high) == ("°C", 0.0, 100.0)
