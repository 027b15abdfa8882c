"""Monitored items when the server refuses, the link breaks or namespaces move. The server here is a model of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua

from adapters.opcua.acquiring.items import BAD_TOO_MANY_MONITORED_ITEMS, ItemKit, MonitoredItems, Ramp
from adapters.opcua.acquiring.plan import Plan, make_plan
from adapters.opcua.acquiring.revised import Revised
from adapters.opcua.config import OpcUaDeviceConfig
from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.stack import node_id
from gateway.contract import LinkLost, SystemClock
from gateway.contract.status import BAD_NODE_ID_UNKNOWN
from tests.support.fake_sink import FakeSink
from tests.support.wait import eventually

TOO_MANY_OPERATIONS = 0x80100000
FILTER_UNSUPPORTED = 0x80440000
URI = "http://plant.test/"


class Server:
    """The services of monitored items, over sessions that may break off."""

    def __init__(self) -> None:
        self.url = "opc.tcp://h:1"
        self.items_per_call = 10
        self.spaces = {URI: 2}
        self.items: dict[int, tuple[int, ua.NodeId]] = {}
        """(client handle, node) by id"""
        self.calls: list[int] = []
        """how many items each CreateMonitoredItems asked for"""
        self.most_per_call = 1000
        self.room = 1000
        self.filters = True
        self.missing: set[str] = set()
        self.fault = 0
        """with which every call is answered"""
        self.break_at: int | None = None
        """the call at which the connection is lost"""

    def namespace(self, uri: str) -> int | None:
        return self.spaces.get(uri)

    async def inspect(self) -> None:
        await asyncio.sleep(0)

    async def call(self, doing: str, request: Any, response: Any, **_: Any) -> Any:
        assert isinstance(request, ua.DeleteMonitoredItemsRequest)
        for item in request.Parameters.MonitoredItemIds:
            del self.items[item]

    async def answer(self, doing: str, request: Any, response: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        wanted = request.Parameters.ItemsToCreate
        self.calls.append(len(wanted))
        if len(self.calls) == self.break_at:
            raise LinkLost("the connection is lost")
        fault = self.fault
        if len(wanted) > self.most_per_call:
            fault = TOO_MANY_OPERATIONS
        elif len(self.items) + len(wanted) > self.room:
            fault = BAD_TOO_MANY_MONITORED_ITEMS
        if fault:
            return None, fault
        return ua.CreateMonitoredItemsResponse(Results=[self._make(item) for item in wanted]), 0

    def _make(self, item: ua.MonitoredItemCreateRequest) -> ua.MonitoredItemCreateResult:
        node = item.ItemToMonitor.NodeId
        status = 0
        if node.Identifier in self.missing or node.NamespaceIndex not in (0, *self.spaces.values()):
            status = BAD_NODE_ID_UNKNOWN
        elif isinstance(item.RequestedParameters.Filter, ua.DataChangeFilter) and not self.filters:
            status = FILTER_UNSUPPORTED
        if status:
            return ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(ua.UInt32(status)))
        asked = item.RequestedParameters
        id = max(self.items, default=0) + 1
        self.items[id] = (asked.ClientHandle, node)
        return ua.MonitoredItemCreateResult(
            MonitoredItemId=ua.UInt32(id),
            RevisedSamplingInterval=asked.SamplingInterval,
            RevisedQueueSize=asked.QueueSize,
        )

    def handles(self) -> list[int]:
        return sorted(handle for handle, _ in self.items.values())


class Bench:
    """Items of one subscription with points p0, p1, ..."""

    def __init__(self, count: int, ramp: float = 0.0, points: Sequence[dict[str, Any]] = (), **keys: Any) -> None:
        self.config = OpcUaDeviceConfig.model_validate(
            {
                "device": "reactor",
                "adapter": "opcua",
                "connection": {"url": "opc.tcp://h:1"},
                "points": [*({"point": f"p{i}", "node": f"nsu={URI};s=p{i}"} for i in range(count)), *points],
                **keys,
            }
        )
        self.points = dict(enumerate(self.config.points))
        self.plan: Plan = make_plan(self.config, self.points, Limits())
        self.revised = Revised("opc.tcp://h:1", self.points)
        self.revised.start(self.plan)
        clock = SystemClock()
        builder = BatchBuilder("reactor", dict.fromkeys(self.points, 0), "trust", clock.time_ns())
        kit = ItemKit(self.points, builder, clock, self.revised, Ramp(self.plan.items, ramp), 0.02)
        self.items = MonitoredItems(1, self.plan.subscriptions[0], kit)
        self.sink = FakeSink()

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncIterator[asyncio.Task[None]]:
        self.items.attach(server, self.sink)
        task = asyncio.create_task(self.items.run())
        try:
            await eventually(lambda: task.done() or self.items.complete)
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def bad(self) -> dict[int, int]:
        """Status by point of what was offered."""
        return {
            point: status
            for batch in self.sink.batches
            for point, status in zip(batch.points.tolist(), batch.status.tolist(), strict=True)
        }


async def test_a_batch_that_is_too_much_is_halved_and_stays_small() -> None:
    bench, server = Bench(20), Server()
    server.most_per_call = 3
    async with bench.running(server):
        assert server.handles() == list(range(20))
    assert server.calls[:3] == [10, 5, 2]
    assert set(server.calls[3:]) == {2}


async def test_a_server_without_room_takes_what_it_can_and_the_rest_reads_bad() -> None:
    bench, server = Bench(40), Server()
    server.room = 13
    async with bench.running(server):
        assert server.handles() == list(range(13))
        assert bench.bad() == dict.fromkeys(range(13, 40), BAD_TOO_MANY_MONITORED_ITEMS)
        assert len(server.calls) < 10, "not asked for one by one"
        server.room = 40
        await eventually(lambda: server.handles() == list(range(40)), message="tried again until there is room")
        assert len(bench.bad()) == 27, "said once"
        assert server.calls[-3:] == [10, 10, 7], "in whole batches again"


async def test_points_that_are_too_much_one_by_one_read_bad_with_what_the_server_says() -> None:
    bench, server = Bench(10), Server()
    server.most_per_call = 0
    async with bench.running(server) as task:
        assert bench.bad() == dict.fromkeys(range(10), TOO_MANY_OPERATIONS)
        assert server.calls[:4] == [10, 5, 2, 1]
        assert not task.done(), "the session is of use to others"


async def test_another_fault_is_a_failure_of_the_service() -> None:
    bench, server = Bench(10), Server()
    server.fault = 0x80280000
    async with bench.running(server) as task:
        with pytest.raises(LinkLost, match="BadSubscriptionIdInvalid"):
            await task


async def test_a_bad_node_is_tried_again_and_the_others_are_not_touched() -> None:
    bench, server = Bench(3), Server()
    server.missing = {"p1"}
    async with bench.running(server):
        assert bench.bad() == {1: BAD_NODE_ID_UNKNOWN}
        await eventually(lambda: len(server.calls) >= 3)
        assert set(server.calls[1:]) == {1}
        server.missing = set()
        await eventually(lambda: server.handles() == [0, 1, 2])
    assert len(bench.sink.batches) == 1


async def test_a_node_that_vanished_gets_a_new_item() -> None:
    bench, server = Bench(2), Server()
    async with bench.running(server):
        before = dict(bench.items.ids)
        server.missing = {"p0"}
        bench.items.vanished([0])
        await eventually(lambda: 0 not in bench.items.ids)
        server.missing = set()
        await eventually(lambda: 0 in bench.items.ids)
        assert bench.items.ids[0] != before[0]
        assert bench.items.ids[1] == before[1]


async def test_a_refused_filter_is_left_out_and_not_tried_again() -> None:
    bench, server = Bench(3, subscribe={"deadband": 1}), Server()
    server.filters = False
    async with bench.running(server):
        assert server.calls == [3, 3]
        assert server.handles() == [0, 1, 2]
        assert bench.revised.unfiltered == dict.fromkeys(range(3), FILTER_UNSUPPORTED)
        assert bench.bad() == {}
        bench.items.vanished([0])
        await eventually(lambda: len(server.calls) == 3)
        assert server.handles() == [0, 1, 2]


async def test_a_link_that_breaks_in_a_call_leaves_nobody_certain() -> None:
    bench, server = Bench(30), Server()
    server.break_at = 2
    async with bench.running(server) as task:
        assert isinstance(task.exception(), LinkLost)
    assert not bench.items.certain
    assert not bench.items.complete


async def test_a_link_that_breaks_between_two_batches_is_gone_on_from_there() -> None:
    bench, server = Bench(20, ramp=1), Server()
    server.missing = {"p1"}
    bench.items.attach(server, bench.sink)  # type: ignore[arg-type]
    task = asyncio.create_task(bench.items.run())
    await eventually(lambda: len(server.calls) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.items.certain
    assert not bench.items.complete
    made = dict(bench.items.ids)
    assert 0 < len(made) < 5
    async with bench.running(server):
        assert server.handles() == [0, *range(2, 20)], "each once"
        assert bench.items.ids.items() >= made.items()
        assert bench.bad() == {1: BAD_NODE_ID_UNKNOWN}


async def test_items_of_a_renumbered_namespace_are_made_anew_on_the_next_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, server = Bench(2, points=[{"point": "fixed", "node": "i=2258"}]), Server()
    async with bench.running(server):
        before = dict(bench.items.ids)
    server.spaces = {"http://other.test/": 2, URI: 5}
    async with bench.running(server):
        await eventually(lambda: server.handles() == [0, 1, 2] and bench.items.ids[0] != before[0])
        assert {node.NamespaceIndex for handle, node in server.items.values() if handle < 2} == {5}
        assert bench.items.ids[2] == before[2]
        (line,) = [line for line in caplog.messages if "renumbered" in line]
        assert "the items of 2 points, for example p0, are made anew" in line
    server.spaces = {"http://other.test/": 2}
    async with bench.running(server):
        await eventually(lambda: server.handles() == [2])
        await eventually(lambda: bench.bad() == {0: BAD_NODE_ID_UNKNOWN, 1: BAD_NODE_ID_UNKNOWN})


async def test_a_namespace_that_is_renumbered_meanwhile_is_seen_at_the_next_retry() -> None:
    bench, server = Bench(2), Server()
    server.missing = {"p1"}
    async with bench.running(server):
        assert [node.NamespaceIndex for _, node in server.items.values()] == [2]
        server.spaces = {URI: 5}
        await eventually(lambda: [node.NamespaceIndex for _, node in server.items.values()] == [5])
        assert bench.bad() == {1: BAD_NODE_ID_UNKNOWN}


async def test_adopted_items_are_not_made_again_and_the_refused_ones_are_tried() -> None:
    bench, server = Bench(3), Server()
    server.items = {7: (0, node_id("p0", 2, ua.NodeIdType.String)), 9: (2, node_id("p2", 2, ua.NodeIdType.String))}
    bench.items.adopt({0: 7, 2: 9}, 31.0)
    assert bench.items.complete
    changes: list[None] = []
    bench.items.on_change = lambda: changes.append(None)
    async with bench.running(server):
        await eventually(lambda: server.handles() == [0, 1, 2])
        await eventually(lambda: changes)
        assert server.calls == [1]
        assert bench.items.ids == {0: 7, 1: 10, 2: 9}
        assert bench.revised.bridged == 31
