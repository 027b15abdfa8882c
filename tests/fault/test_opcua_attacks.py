"""What is rare, and would be a silent gap, a leak, or a device that never comes back: node-opcua behind a proxy."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.opcua.acquiring import services
from adapters.opcua.connecting import connect
from gateway.contract import Remembered, ValueType
from tests.fault.test_opcua_life import CREATE_ITEMS, CREATE_SESSION, CREATE_SUBSCRIPTION, STEADY_S, TRANSFER, Device
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

POINTS = 10
CREATED, READ_RESPONSE, MODIFY, DELETE, CLOSE = 790, 634, 793, 847, 473
DAY_S = 86_400
EPOCH_MS = 11_644_473_600_000
"""1970 in the milliseconds of a DateTime, which begins in 1601"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    async with interop_server(tmp_path_factory.mktemp("attacks"), counters=POINTS, period_ms=250) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: InteropServer) -> AsyncIterator[OpcUaWire]:
    async with OpcUaWire("127.0.0.1", server.port) as made:
        yield made


def one_device(server: InteropServer, port: int, nodes: list[str] | None = None, **keys: Any) -> Device:
    names = [server.node(f"c{i}") for i in range(POINTS)] if nodes is None else nodes
    return Device("reactor", device(port, names, **keys))


async def complete(one: Device) -> dict[str, Any]:
    """Wait until the note says that all items are made; the first subscription in it."""

    def made() -> dict[str, Any] | None:
        noted = one.notes[-1]["subscriptions"] if one.notes else []
        return noted[0] if noted and noted[0]["items"] else None

    first = await eventually(made, message="all items are made")
    assert first is not None
    return first


async def fresh(one: Device, timeout_s: float = 60.0) -> None:
    """Wait for readings that are made after this call."""
    count = len(one.offers)
    await eventually(lambda: len(one.offers) > count + 1, timeout_s, f"new readings, {one.state}")


@asynccontextmanager
async def supervised(one: Device) -> AsyncIterator[None]:
    task = asyncio.create_task(one.supervisor.run(one, 0), name="device")  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_subscription_whose_making_was_cut_off_is_not_left_at_the_server(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the session that is taken up again it would live for ever: our requests keep it alive."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(services, "KEEP_ALIVE_S", 0.5)
    before = (await server.tell("count"))["subscriptions"]

    def cut_off(type_id: int, chunk: bytes) -> bytes:
        if type_id == CREATED:
            wire.tamper = None
            wire.cut()
        return chunk

    wire.tamper = cut_off
    one = one_device(server, wire.port)
    async with one.running(POINTS):
        assert wire.connections == 2
        assert wire.count(CREATE_SESSION) == 1
        assert wire.count(CREATE_SUBSCRIPTION) == 2

        async def no_more() -> bool:
            return bool((await server.tell("count"))["subscriptions"] == before + 1)

        await eventually(no_more, 60, "the one that nobody knows of is deleted")
        await fresh(one)
    assert sum("left behind while it was being made" in r.getMessage() for r in caplog.records) == 1
    wire.assert_read_only()


def a_day_later(started_ms: int) -> Callable[[int, bytes], bytes]:
    """Servers that reckon when they started from how long they run, after their clock was set."""

    def shift(type_id: int, chunk: bytes) -> bytes:
        at = chunk.find(b"\x0d") if type_id == READ_RESPONSE else -1
        while 0 <= at < len(chunk) - 8:
            (ticks,) = struct.unpack_from("<q", chunk, at + 1)
            if abs(ticks / 10_000 - EPOCH_MS - started_ms) < 2:
                return chunk[: at + 1] + struct.pack("<q", ticks + DAY_S * 10**7) + chunk[at + 9 :]
            at = chunk.find(b"\x0d", at + 1)
        return chunk

    return shift


async def test_a_server_whose_clock_was_set_is_not_taken_for_another(server: InteropServer, wire: OpcUaWire) -> None:
    one = one_device(server, wire.port)
    async with one.running(POINTS, steady=True):
        await complete(one)
        wire.tamper = a_day_later(one.notes[-1]["started"])
        wire.cut()
        await eventually(lambda: wire.connections == 2)
        await fresh(one)
        await eventually(lambda: abs(one.notes[-1]["started"] - one.notes[0]["started"]) > 1000 * (DAY_S - 60))
        assert one.gaps == []
    assert wire.count(CREATE_SUBSCRIPTION) == wire.count(CREATE_ITEMS) == 1


async def test_a_lost_link_has_no_clock_offset_and_a_new_one_its_own(server: InteropServer, wire: OpcUaWire) -> None:
    one = one_device(server, wire.port)
    async with one.running(POINTS):
        await eventually(lambda: one.adapter.facts().clock_offset_s is not None)
        wire.broken = True
        wire.cut()
        await eventually(lambda: one.state.state == "down")
        assert one.adapter.facts().clock_offset_s is None
        wire.broken = False
        await eventually(lambda: one.adapter.facts().clock_offset_s is not None)


async def test_a_server_that_publishes_slower_shows_life_as_often_as_asked(
    server: InteropServer, wire: OpcUaWire, caplog: pytest.LogCaptureFixture
) -> None:
    """Keep-alives and lifetime are counted in publishing intervals: at five seconds instead of a tenth, fifty times
    as long."""
    caplog.set_level(logging.INFO)

    def slower(type_id: int, chunk: bytes) -> bytes:
        asked = struct.pack("<d", 100.0)
        return chunk.replace(asked, struct.pack("<d", 5000.0), 1) if type_id == CREATED else chunk

    wire.tamper = slower
    one = one_device(server, wire.port)
    async with one.running(POINTS):
        _, publishing_s, keep_alive_s, lifetime_s = (await complete(one))["made"]
    assert wire.count(MODIFY) == 1
    assert (publishing_s, lifetime_s) == (5, 600)
    assert keep_alive_s == 2 * publishing_s, "node-opcua counts to two at least"
    assert sum("publishes every 5 s, we asked for 0.1 s" in r.getMessage() for r in caplog.records) == 1
    wire.assert_read_only()


async def test_a_node_that_returns_with_another_type_goes_on_with_it(server: InteropServer, wire: OpcUaWire) -> None:
    """As after a download to the PLC; the point's column of doubles becomes one of texts."""
    await server.tell("add", node="swapped", type="Double", value=1.5)
    one = Device("reactor", device(wire.port, [server.node("swapped"), server.node("c0")]), retry_s=0.2)
    async with one.running(2):
        await server.tell("delete", nodes=["swapped"])
        await eventually(lambda: one.readings(0)[-1].status >> 31, message="it is gone")
        await server.tell("add", node="swapped", type="String", value="full")
        await eventually(lambda: one.values(0)[-1] == "full", message="it is back")
        assert [(reading.type, reading.value) for reading in one.readings(0) if reading.value is not None] == [
            (ValueType.FLOAT64, 1.5),
            (ValueType.STRING, "full"),
        ]
        await fresh(one)
        assert one.gaps == []
    assert wire.connections == 1


async def crashed(server: InteropServer, wire: OpcUaWire) -> tuple[Device, dict[str, Any]]:
    """A device whose gateway ends without a word, and the note in its log."""
    one = one_device(server, wire.port)
    async with one.running(POINTS):
        await complete(one)
        note = one.notes[-1]
        wire.broken = True
        wire.cut()
        await eventually(lambda: one.state.state == "down")
    wire.broken = False
    wire.requests.clear()
    return one, note


async def test_what_an_outage_may_last_is_known_after_a_crash_too(server: InteropServer, wire: OpcUaWire) -> None:
    one, note = await crashed(server, wire)
    two = one_device(server, wire.port)
    two.left = Remembered(note, ())
    async with two.running(POINTS):
        await complete(two)
        assert (wire.count(TRANSFER), wire.count(CREATE_SUBSCRIPTION)) == (1, 0)
        assert two.adapter.facts().bridged_s == one.adapter.facts().bridged_s == note["subscriptions"][0]["bridged"]
        assert two.adapter.facts().bridged_s


async def test_a_device_that_is_polled_now_deletes_what_a_crash_left(server: InteropServer, wire: OpcUaWire) -> None:
    _, note = await crashed(server, wire)
    before = (await server.tell("count"))["subscriptions"]
    two = one_device(server, wire.port, poll="200ms", subscribe={})
    two.left = Remembered(note, ())
    async with two.running(POINTS):
        await fresh(two)
        assert (await server.tell("count"))["subscriptions"] == before - 1
        assert two.adapter.facts().bridged_s is None
        await eventually(lambda: two.notes and two.notes[-1]["subscriptions"] == [])
    assert (wire.count(TRANSFER), wire.count(DELETE), wire.count(CREATE_SUBSCRIPTION)) == (1, 1, 0)


async def test_one_session_that_a_crash_left_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server with room for one session: ours, of the process before, which ends by its timeout alone."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(connect, "SESSION_TIMEOUT_S", 10.0)
    async with (
        interop_server(tmp_path, counters=POINTS, max_sessions=1) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        _, note = await crashed(server, wire)
        two = one_device(server, wire.port)
        two.left = Remembered(note, ())
        async with supervised(two):
            await eventually(lambda: two.state.state == "refused")
            assert "one that this gateway left there" in (two.state.error or "")
            await eventually(lambda: len(two.heard()) == POINTS, 60, "data")
            assert wire.count(CREATE_SUBSCRIPTION) == 0, "and its subscription is taken up"
            # A lost link is no crash: the session is still known, and there need be no room for another.
            await asyncio.sleep(STEADY_S)
            wire.cut()
            await eventually(lambda: wire.open_connections == 0)
            await fresh(two)
            assert (await server.tell("count"))["sessions"] == 1


async def test_one_item_a_call_one_node_a_read_and_a_node_twice(tmp_path: Path) -> None:
    limits = {"maxMonitoredItemsPerCall": 1, "maxNodesPerRead": 1}
    async with (
        interop_server(tmp_path, counters=POINTS, limits=limits) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        nodes = [server.node(f"c{i}") for i in (*range(POINTS), 3)]
        one = one_device(server, wire.port, nodes)
        async with one.running(POINTS + 1):
            assert wire.count(CREATE_ITEMS) == POINTS + 1
            await fresh(one)
            await eventually(lambda: one.last(3) == one.last(POINTS), message="both points of the node go on")
            assert one.state.state == "up"


async def test_five_hundred_points_with_one_request_a_second(tmp_path: Path) -> None:
    async with (
        interop_server(tmp_path, counters=500, period_ms=1000) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        nodes = [server.node(f"c{i}") for i in range(500)]
        keys: dict[str, Any] = {"subscribe": {"publishing": "5s", "sampling": "1s"}, "load": {"requests_per_s": 1}}
        one = one_device(server, wire.port, nodes, **keys)
        async with supervised(one):
            await eventually(lambda: len(one.heard()) == 500, 60, "first data, slowly")
            for _ in range(3):
                await fresh(one)
            assert (one.state.state, one.state.outages, one.gaps) == ("up", 0, [])
        assert wire.count(CREATE_SESSION) == 1
        wire.assert_within(1)


async def test_servers_that_number_their_namespaces_otherwise(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with (
        interop_server(tmp_path / "first", counters=POINTS) as first,
        interop_server(tmp_path / "second", counters=POINTS, shifted=True) as second,
        OpcUaWire("127.0.0.1", first.port) as wire,
    ):
        one = one_device(first, wire.port, connection={"alternatives": [f"opc.tcp://127.0.0.1:{second.port}"]})
        async with one.running(POINTS, steady=True):
            await complete(one)
            wire.broken = True
            wire.cut()

            def heard_of_the_second() -> bool:
                origins = [origin for origin in one.origins if origin is not None]
                return f"127.0.0.1:{second.port}" in origins[-1].server

            await eventually(heard_of_the_second, 60, "readings of the other server")
            await fresh(one)
            assert all(one.readings(point)[-1].status == 0 for point in range(POINTS))
        assert (await second.tell("count"))["subscriptions"] == 0
