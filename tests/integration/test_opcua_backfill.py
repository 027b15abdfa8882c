"""Gaps filled from the history of real servers, node-opcua and asyncua, with a proxy that watches the wire."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.history_sql import HistorySQLite
from asyncua.server.server import Server

from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.history.history import NODES_PER_REQUEST
from adapters.opcua.session import stack
from gateway.contract import Batch, Flag, LinkLost, OpenGap, Origin
from tests.support.broker import free_port
from tests.support.fake_sink import FakeSink
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import Stalls, slowdown
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import HISTORY_READ, OpcUaWire
from tests.support.wait import eventually

COUNTERS = 20
PERIOD_MS = 50
BUDGET = 60.0


class BackfillSink(KeepingSink):
    """Looks at live readings and at those from history; begins outages, as the supervisor does."""

    def __init__(self) -> None:
        super().__init__()
        self.outages = 0

    def lose(self) -> None:
        """The link is lost."""
        self.open = OpenGap(f"outage-{self.outages}", time.time_ns(), "device-down")
        self.outages += 1

    def past(self, point: int) -> list[int]:
        """Values of a point that came from history."""
        return [reading.value for reading in self.readings(point) if reading.flags & Flag.BACKFILLED]

    def assert_every_count(self, points: Sequence[int], first: int = 1) -> None:
        """Each point has every number that the server counted, once; live and past ones each in their order."""
        for point in points:
            readings = [reading for reading in self.readings(point) if reading.value is not None]
            for kind in (0, Flag.BACKFILLED):
                times = [each.time for each in readings if each.flags & Flag.BACKFILLED == kind]
                assert times == sorted(times), f"point {point}"
            values = sorted(int(reading.value) for reading in readings)
            assert values == list(range(values[0], values[-1] + 1)), f"point {point}"
            assert values[0] <= first + 100


def history_device(server: InteropServer, port: int, count: int = COUNTERS, *, queue: str = "60s", **keys: Any) -> Any:
    """`queue`: as of the device file; where it is long, no pause of this machine makes it overflow."""
    nodes = [server.node(f"c{i}") for i in range(count)]
    subscribe = {"publishing": "100ms", "sampling": "20ms", "queue": queue}
    return device(port, nodes, subscribe=subscribe, backfill=True, **keys)


async def lost(task: asyncio.Task[None]) -> None:
    """Until the adapter has noticed."""
    await eventually(task.done, message="the link is lost")
    assert isinstance(task.exception(), LinkLost), task


async def count_to(server: InteropServer, wanted: int) -> None:
    """Wait until the server has counted so far."""

    async def there() -> Any:
        return (await server.tell("run"))["values"][0] >= wanted

    await eventually(there, 60, f"the server counts to {wanted}")


async def ended(server: InteropServer, sink: BackfillSink, count: int) -> list[int]:
    """Stop counting; returns the last values when live readings have come so far, and whatever can be filled is."""
    final: list[int] = (await server.tell("pause"))["values"]
    await eventually(lambda: [max(sink.values(i)) for i in range(count)] == final[:count], 60, "the last values")
    return final


async def heard_and_cut(adapter: OpcUaAdapter, sink: BackfillSink, wire: OpcUaWire) -> None:
    """Run until every point has been heard for a while, then take the connection away."""
    async with running(adapter, sink) as task:
        await all_heard(sink, task, COUNTERS)
        await eventually(lambda: len(sink.values(0)) > 20)
        wire.broken = True
        wire.cut()
        await lost(task)
    sink.lose()


async def test_an_outage_longer_than_the_servers_queues_leaves_no_sample_missing(tmp_path: Path) -> None:
    """The session is taken up again, and the server says of each point that its queue overflowed."""
    async with (
        interop_server(tmp_path, counters=COUNTERS, period_ms=PERIOD_MS, history=10_000, history_page=7) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        adapter = adapter_of(history_device(server, wire.port, queue="500ms", load={"requests_per_s": BUDGET}))
        sink = BackfillSink()
        await heard_and_cut(adapter, sink, wire)
        # Three seconds of readings, six times what the queues hold.
        await count_to(server, sink.values(0)[-1] + 60)
        wire.broken = False
        async with running(adapter, sink) as task:
            await eventually(lambda: task.done() or all_filled(sink), 60, "filled")
            await ended(server, sink, COUNTERS)
            # A pause of this machine may have made the queues overflow once more.
            await eventually(lambda: task.done() or all_filled(sink), 60, "filled")
        assert len(overflows(sink)) >= COUNTERS
        sink.assert_every_count(range(COUNTERS))
        assert all(len(sink.past(i)) > 30 for i in range(COUNTERS))
        # Pages of seven values: continuation points were followed.
        assert wire.count(HISTORY_READ) > COUNTERS / NODES_PER_REQUEST * 30 / 7
        wire.assert_read_only()
        wire.assert_within(BUDGET)
        times = [request.at for request in wire.requests if request.type_id == HISTORY_READ]
        assert (len(times) - 1) / (times[-1] - times[0]) <= BUDGET / 2 * 1.05, "half of the budget"


def all_filled(sink: BackfillSink) -> bool:
    """Every gap that the server's queues left was told to be filled, and there was one."""
    return overflows(sink) <= {fill.gap for fill in sink.fills}


def overflows(sink: BackfillSink) -> set[str]:
    """Ids of the gaps that the server's queues left."""
    return {f"gap-{n}" for n, gap in enumerate(sink.gaps) if gap.reason == "overflow"} or {"none yet"}


async def test_a_subscription_that_is_lost_leaves_no_sample_missing(tmp_path: Path) -> None:
    """The server hands over no subscription, so that everything of the outage is in its history alone."""
    async with (
        interop_server(
            tmp_path, counters=COUNTERS, period_ms=PERIOD_MS, history=10_000, no_transfer="BadUserAccessDenied"
        ) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        adapter = adapter_of(history_device(server, wire.port))
        sink = BackfillSink()
        await heard_and_cut(adapter, sink, wire)
        await server.tell("expire")
        await count_to(server, sink.values(0)[-1] + 40)
        wire.broken = False
        async with running(adapter, sink) as task:
            await eventually(lambda: task.done() or len(sink.fills) >= 2, 60, "told what was filled")
            await ended(server, sink, COUNTERS)
        assert {gap.reason for gap in sink.gaps} == {"subscription-lost"}
        assert {fill.gap for fill in sink.fills} == {"outage-0", "gap-0"}
        assert all(fill.points == () for fill in sink.fills)
        sink.assert_every_count(range(COUNTERS))
        wire.assert_read_only()


async def test_who_stops_in_the_middle_releases_continuation_points(tmp_path: Path) -> None:
    async with (
        interop_server(tmp_path, counters=4, period_ms=PERIOD_MS, history=10_000, history_page=7) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        sink = BackfillSink()
        sink.open = OpenGap("gateway-down", time.time_ns(), "gateway-down")
        sink.commit.clear()
        await count_to(server, 60)
        async with running(adapter_of(history_device(server, wire.port, 4)), sink) as task:
            await eventually(lambda: task.done() or sink.past(0), 60, "the first page")
        # Four nodes in one request, and in another one their continuation points.
        assert [request.releases for request in wire.requests if request.type_id == HISTORY_READ] == [False, True]
        wire.assert_read_only()


async def test_live_readings_are_not_late_while_much_is_read(tmp_path: Path) -> None:
    """As many readings as an hour of a sample per second."""
    async with (
        interop_server(tmp_path, counters=4, period_ms=4, history=10_000) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        adapter = adapter_of(history_device(server, wire.port, 4, queue="2s"))
        sink, stalls = TimedSink(), Stalls()
        async with running(adapter, sink) as task:
            await all_heard(sink, task, 4)
            await eventually(lambda: len(sink.delays) > 30)
            usual = sorted(sink.delays)
            wire.broken = True
            wire.cut()
            await lost(task)
        sink.lose()
        await count_to(server, sink.values(0)[-1] + 4000)
        wire.broken = False
        async with running(adapter, sink) as task:
            await eventually(lambda: task.done() or sink.past_offers, 60, "history")
            sink.delays.clear()

            async def live_while_filled() -> bool:
                """What was sampled while history came may only come after it, and late: it counts too."""
                await stalls.sleep(0.01)
                return task.done() or (all_filled(sink) and len(sink.delays) > 30)

            await eventually(live_while_filled, 60, "filled")
            during = sorted(sink.delays)
            await ended(server, sink, 4)
            await eventually(lambda: task.done() or all_filled(sink), 60, "filled")
        for point in range(4):
            # The server counts faster than it samples: what is missing between two live readings is in its history.
            past, live = sink.past(point), {each.value for each in sink.readings(point) if not each.flags & 1}
            assert past == list(range(past[0], past[-1] + 1))
            assert not live & set(past)
            assert len(past) > 3000
        slow = slowdown()
        assert during[len(during) // 2] < (usual[len(usual) // 2] + 0.1) * slow, "the median"
        assert during[-1] < (usual[-1] + 0.5) * slow + stalls.worst_s(during[-1]), "the worst"


class TimedSink(BackfillSink):
    """Takes the time of live readings from the server to here."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.past_offers = 0

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> FakeSink:
        if origin is None:
            self.past_offers += any((batch.flags & Flag.BACKFILLED).any() for batch in batches)
        else:
            self.delays.append(time.time() - max(int(batch.source_time.max()) for batch in batches) / 1e9)
        return await super().offer(batches, origin)


async def test_a_server_without_history_says_so_once_and_the_gap_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        interop_server(tmp_path, counters=COUNTERS, period_ms=PERIOD_MS, no_transfer="BadUserAccessDenied") as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        adapter = adapter_of(history_device(server, wire.port))
        sink = BackfillSink()
        async with running(adapter, sink) as task:
            await all_heard(sink, task, COUNTERS)
            wire.broken = True
            wire.cut()
            await lost(task)
        sink.lose()
        await server.tell("expire")
        wire.broken = False
        async with running(adapter, sink) as task:
            await eventually(lambda: task.done() or about_history(caplog), 60)
            await eventually(lambda: task.done() or sink.gaps, 60)
            await ended(server, sink, COUNTERS)
        assert sink.fills == []
        assert wire.count(HISTORY_READ) == 0, "the access levels say already that there is none"
        wire.assert_read_only()
    assert [text.split(",")[0] for text in about_history(caplog)] == [
        f"reactor: {COUNTERS} points have no history that the gateway may read"
    ]


def about_history(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of the history."""
    return [record.getMessage() for record in caplog.records if record.name == "adapters.opcua.history.backfill"]


@asynccontextmanager
async def asyncua_server(path: Path) -> AsyncIterator[tuple[Server, int]]:
    """A server that keeps its history in SQLite."""
    server = Server()
    await server.init()
    history = HistorySQLite(str(path / "history.db"))
    await history.init()
    server.iserver.history_manager.set_storage(history)
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    async with server:
        try:
            yield server, port
        finally:
            await history.stop()


async def test_asyncuas_history_in_sqlite(tmp_path: Path) -> None:
    async with asyncua_server(tmp_path) as (server, port), OpcUaWire("127.0.0.1", port) as wire:
        node = await server.nodes.objects.add_variable(stack.node_id(7, 2), "level", 0.0)
        await server.historize_node_data_change(node, datetime.timedelta(days=1))
        config = device(wire.port, ["ns=2;i=7"], subscribe={"publishing": "50ms", "sampling": "50ms"}, backfill=True)
        sink = BackfillSink()
        written = 0

        async def write(count: int) -> None:
            nonlocal written
            for _ in range(count):
                written += 1
                now: Any = datetime.datetime.now(datetime.UTC)
                value = ua.DataValue(ua.Variant(float(written)), SourceTimestamp=now, ServerTimestamp=now)
                await server.write_attribute_value(node.nodeid, value)
                await asyncio.sleep(0.002)  # the history keeps values by their time

        # Two processes of the gateway, and between them a time without one.
        async with running(adapter_of(config), sink) as task:
            await all_heard(sink, task, 1)
            await write(10)
            await eventually(lambda: sink.values(0)[-1] == 10.0)
        await write(1200)
        sink.open = OpenGap("gateway-down", sink.readings(0)[-1].time, "gateway-down")
        async with running(adapter_of(config), sink) as task:
            await eventually(lambda: sink.open is None)
            await write(10)
            await eventually(lambda: task.done() or sink.fills, 60, "told what was filled")
            await eventually(lambda: max(sink.values(0)) == written)
        assert [fill.gap for fill in sink.fills] == ["gateway-down"]
        sink.assert_every_count([0])
        assert len(sink.past(0)) > 1100
        wire.assert_read_only()
