"""What servers are asked for, seen on the wire, and what becomes of it when they do something else."""

from __future__ import annotations

import functools
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.server.server import Server

from adapters.opcua.config import LoadConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.decoding import layouts
from adapters.opcua.model.definitions import learn_built_in
from adapters.opcua.session.session import Session
from adapters.opcua.session.stack import node_id
from tests.support.broker import free_port
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

CREATE_MONITORED_ITEMS = 751
CREATE_SUBSCRIPTION = 787
MAX_SUBSCRIPTIONS_PER_SESSION = 24098
READ = 631
CREATE_MONITORED_ITEMS_RESPONSE = 754
BAD_TOO_MANY_MONITORED_ITEMS = 0x80DB0000
UNCERTAIN = 0x408F0000

# A server takes seconds to start, so that all tests share them; each test has nodes of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")
_uris = (f"http://items.test/{n}" for n in count())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node_opcua(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    async with interop_server(tmp_path_factory.mktemp("interop"), counters=20, quiet_time=True) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asyncua_server() -> AsyncIterator[tuple[Server, int]]:
    server = Server()
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    async with server:
        yield server, port


class Corner:
    """One test's namespace, and a proxy before the server."""

    def __init__(self, server: Server, uri: str, index: int, wire: OpcUaWire) -> None:
        self.server = server
        self.uri = uri
        self.index = index
        self.wire = wire

    async def add(self, name: str, value: Any, type: ua.VariantType, index: int | None = None) -> None:
        index = index or self.index
        await self.server.nodes.objects.add_variable(
            node_id(name, index, ua.NodeIdType.String), ua.QualifiedName(name, index), value, type
        )

    async def many(self, number: int) -> list[str]:
        for i in range(number):
            await self.add(f"v{i}", i, ua.VariantType.Int32)
        return [self.node(f"v{i}") for i in range(number)]

    def node(self, name: str) -> str:
        return f"nsu={self.uri};s={name}"


@pytest_asyncio.fixture(loop_scope="module")
async def corner(asyncua_server: tuple[Server, int]) -> AsyncIterator[Corner]:
    server, port = asyncua_server
    uri = next(_uris)
    index = await server.register_namespace(uri)
    async with OpcUaWire("127.0.0.1", port) as wire:
        yield Corner(server, uri, index, wire)


@asynccontextmanager
async def acquiring(port: int, nodes: list[str], **keys: Any) -> AsyncIterator[KeepingSink]:
    """An adapter that runs until all its points have been heard, and further."""
    retry = {"retry_s": keys.pop("retry_s")} if "retry_s" in keys else {}
    sink = KeepingSink()
    async with running(adapter_of(device(port, nodes, **keys), **retry), sink) as task:
        await all_heard(sink, task, len(nodes))
        yield sink
        assert not task.done()


# Filters


async def test_a_deadband_is_kept_by_the_server(node_opcua: InteropServer) -> None:
    node = node_opcua.node("c0")
    points = [{"point": "coarse", "node": node, "deadband": 5}, {"point": "fine", "node": node}]
    sink = KeepingSink()
    async with running(adapter_of(device(node_opcua.port, [], points=points)), sink) as task:
        await all_heard(sink, task, 2)
        for value in (103, 105, 120, 123, 160):
            await node_opcua.tell("set", node="c0", value=value)
            await eventually(functools.partial(_last_is, sink, 1, value))
        await eventually(functools.partial(_last_is, sink, 0, 160))
        assert sink.values(1) == [0, 103, 105, 120, 123, 160]
        assert sink.values(0) == [0, 103, 120, 160]


def _last_is(sink: KeepingSink, point: int, value: int) -> bool:
    return bool(sink.values(point)[-1] == value)


async def test_the_trigger_says_what_counts_as_news(node_opcua: InteropServer) -> None:
    nodes = [node_opcua.node("c1")] * 3
    points = [
        {"point": trigger, "node": node, "trigger": trigger}
        for trigger, node in zip(("status", "value", "timestamp"), nodes, strict=True)
    ]
    sink = KeepingSink()
    async with running(adapter_of(device(node_opcua.port, [], points=points)), sink) as task:
        await all_heard(sink, task, 3)
        await node_opcua.tell("set", node="c1", value=1)
        await eventually(lambda: sink.values(1)[-1] == sink.values(2)[-1] == 1)
        await node_opcua.tell("set", node="c1", value=1)
        await eventually(lambda: len(sink.readings(2)) == 3)
        await node_opcua.tell("set", node="c1", value=1, status="UncertainNoCommunicationLastUsableValue")
        await eventually(lambda: all(sink.readings(point)[-1].status == UNCERTAIN for point in range(3)))
        assert [len(sink.readings(point)) for point in range(3)] == [2, 3, 4]


async def test_a_filter_that_the_server_refuses_is_left_out_and_reported(
    node_opcua: InteropServer, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [node_opcua.node("c2"), node_opcua.node("String"), node_opcua.node("c3")]
    # Percent of a range that the node does not have, and a text.
    async with acquiring(node_opcua.port, nodes, subscribe={"deadband": "10%"}) as sink:
        lines = [message for message in caplog.messages if "refuses the trigger or the deadband" in message]
        assert len(lines) == 1
        assert "of 3 of 3 points, for example p0: Bad" in lines[0]
        await node_opcua.tell("set", node="c2", value=1)
        await eventually(lambda: sink.values(0) == [0, 1], message="every change comes")
        assert not any("refuses 3 points" in message for message in caplog.messages)


# What the server makes of it


async def test_a_server_that_tells_its_fastest_rate_is_asked_for_no_faster(
    node_opcua: InteropServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with acquiring(node_opcua.port, [node_opcua.node("c4")], subscribe={"sampling": "10ms"}):
        assert any("p0, is sampled every 0.05 s, slower than the device file says" in line for line in caplog.messages)
        assert not any("samples 1 of 1 points slower than asked" in line for line in caplog.messages)


async def test_a_queue_that_the_server_cuts_short_is_reported_once(
    corner: Corner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def cut(type_id: int, chunk: bytes) -> bytes:
        """The first item is sampled every 2 s and keeps 5 samples; this server grants what it is asked for."""
        if type_id != CREATE_MONITORED_ITEMS_RESPONSE:
            return chunk
        return chunk.replace(struct.pack("<dI", 1000.0, 31), struct.pack("<dI", 2000.0, 5), 1)

    corner.wire.tamper = cut
    nodes = await corner.many(3)
    async with acquiring(corner.wire.port, nodes, subscribe={"publishing": "1s", "sampling": "1s"}):
        await eventually(lambda: any("an outage of up to" in line for line in caplog.messages))
        lines = [line for line in caplog.messages if "slower than asked" in line]
        assert len(lines) == 1
        assert "samples 1 of 3 points slower" in lines[0]
        assert "the worst is p0, every 2 s instead of 1 s" in lines[0]
        assert "the worst is p0, 5 samples every 2 s or 10 s instead of 30 s" in lines[0]
        assert any(
            "an outage of up to 10 s loses no reading: then the queue of p0 is full" in m for m in caplog.messages
        )


async def test_a_ramp_spreads_the_making_of_items_over_its_time(corner: Corner) -> None:
    nodes = await corner.many(40)
    async with acquiring(corner.wire.port, nodes, load={"ramp": "2s"}):
        (start,) = [request.at for request in corner.wire.requests if request.type_id == CREATE_SUBSCRIPTION]
        calls = [request.at for request in corner.wire.requests if request.type_id == CREATE_MONITORED_ITEMS]
        assert len(calls) == 10
        assert all(at >= start + 0.2 * i for i, at in enumerate(calls)), "a tenth of the items every 0.2 s"
    corner.wire.assert_read_only()


async def test_points_beyond_the_budget_read_bad_and_are_not_asked_for(
    corner: Corner, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = await corner.many(3)
    async with acquiring(corner.wire.port, nodes, load={"items": 2}) as sink:
        assert sink.readings(0)[0].value == 0
        assert [(each.value, each.status) for each in sink.readings(2)] == [(None, BAD_TOO_MANY_MONITORED_ITEMS)]
        lines = [line for line in caplog.messages if "not subscribed to" in line]
        assert len(lines) == 1
        assert "1 of 3 points are not subscribed to, from p2 on" in lines[0]


@pytest.mark.parametrize(("most", "made"), [(0, 2), (1, 1)])
async def test_as_many_subscriptions_as_intervals_and_as_the_server_bears(
    corner: Corner, most: int, made: int, caplog: pytest.LogCaptureFixture
) -> None:
    limit = corner.server.get_node(node_id(MAX_SUBSCRIPTIONS_PER_SESSION))
    nodes = await corner.many(4)
    points = [
        {"point": f"p{i}", "node": node, "publishing": "200ms" if i % 2 else "100ms"} for i, node in enumerate(nodes)
    ]
    await limit.write_value(most, ua.VariantType.UInt32)
    try:
        sink = KeepingSink()
        async with running(adapter_of(device(corner.wire.port, [], points=points)), sink) as task:
            await all_heard(sink, task, 4)
            assert corner.wire.count(CREATE_SUBSCRIPTION) == made
    finally:
        await limit.write_value(0, ua.VariantType.UInt32)
    remarks = [line for line in caplog.messages if "the server allows only 1 subscription" in line]
    assert len(remarks) == (made == 1)


# Nodes that come and go


async def test_nodes_of_a_renumbered_namespace_are_found_again(
    corner: Corner, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = await corner.many(2)
    missing = corner.node("late")
    sink = KeepingSink()
    async with running(adapter_of(device(corner.wire.port, [*nodes, missing]), retry_s=0.2), sink) as task:
        await all_heard(sink, task, 3)
        other = await corner.server.register_namespace(next(_uris))
        array = corner.server.get_node(node_id(2255))
        uris = list(await array.read_value())
        uris[corner.index], uris[other] = uris[other], uris[corner.index]
        for name in ("v0", "v1", "late"):
            await corner.add(name, 77, ua.VariantType.Int32, other)
        await array.write_value(uris)
        await eventually(lambda: sink.values(0)[-1] == sink.values(1)[-1] == 77 and sink.values(2) == [77])
        assert any("has renumbered its namespaces; the items of 2 points, for example p0" in m for m in caplog.messages)
        assert not task.done()


# Types


async def test_the_server_is_asked_for_types_once_and_items_are_made_in_their_order(
    corner: Corner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.opcua.adapter.ORDER_PAYS", 6)
    service = corner.server.iserver.subscription_service
    create = service.create_monitored_items
    order: list[list[int]] = []
    asked: list[int] = []

    def seen(params: ua.CreateMonitoredItemsParameters, *others: Any) -> Any:
        order.append([item.RequestedParameters.ClientHandle for item in params.ItemsToCreate])
        return create(params, *others)

    def asking(session: Session, nodes: Sequence[ua.NodeId]) -> Any:
        asked.append(len(nodes))
        return learn_built_in(session, nodes)

    monkeypatch.setattr(service, "create_monitored_items", seen)
    monkeypatch.setattr("adapters.opcua.adapter.learn_built_in", asking)
    for i in range(6):
        kind = ua.VariantType.Int32 if i % 2 else ua.VariantType.Double
        await corner.add(f"v{i}", i, kind)
    adapter = adapter_of(device(corner.wire.port, [corner.node(f"v{i}") for i in range(6)]))
    for _ in range(2):
        sink = KeepingSink()
        async with running(adapter, sink) as task:
            await all_heard(sink, task, 6)
    assert order == [[1, 3, 5, 0, 2, 4]] * 2
    assert asked == [6]


async def test_built_in_types_of_what_variables_hold(corner: Corner) -> None:
    enumeration = await corner.server.nodes.enum_data_type.add_data_type(corner.index, "Phase")
    types = {
        "double": ua.NodeId(ua.Int32(11)),
        "duration": ua.NodeId(ua.Int32(290)),
        "utc": ua.NodeId(ua.Int32(294)),
        "range": ua.NodeId(ua.Int32(884)),
        "number": ua.NodeId(ua.Int32(26)),
        "any": ua.NodeId(ua.Int32(24)),
        "phase": enumeration.nodeid,
    }
    for name, type in types.items():
        node = await corner.server.nodes.objects.add_variable(
            node_id(name, corner.index, ua.NodeIdType.String), ua.QualifiedName(name), None, datatype=type
        )
        assert await node.read_data_type() == type
    nodes = [node_id(name, corner.index, ua.NodeIdType.String) for name in (*types, "nothing")]
    connection = device(corner.wire.port, [corner.node("double")]).connection
    async with open_session(connection, LoadConfig()) as session:
        found = await learn_built_in(session, nodes)
    assert dict(zip((*types, "nothing"), found, strict=True)) == {
        "double": layouts.DOUBLE,
        "duration": layouts.DOUBLE,
        "utc": layouts.DATETIME,
        "range": layouts.EXTENSION_OBJECT,
        "number": None,
        "any": None,
        "phase": layouts.INT32,
        "nothing": None,
    }
    assert corner.wire.count(READ) < 20, "questions are batched"
