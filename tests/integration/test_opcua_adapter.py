"""The OPC UA adapter against a real server, with a proxy between them that shows what goes over the wire."""

from __future__ import annotations

import asyncio
import base64
import datetime
import struct
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from adapters.opcua import ADAPTER
from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.config import OpcUaDeviceConfig
from adapters.opcua.connect import open_session
from gateway.contract import Basis, Flag, LinkLost, Point, Refused, SystemClock, ValueType
from gateway.contract.status import BAD_NODE_ID_UNKNOWN, BAD_TYPE_MISMATCH
from tests.support.broker import free_port
from tests.support.fake_sink import FakeSink
from tests.support.opcua_wire import PUBLISH, REPUBLISH, OpcUaWire
from tests.support.wait import eventually

PUBLISH_RESPONSE = 829

# A server takes seconds to start, so that all tests share two; each test has a namespace of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")
_uris = (f"http://plant.test/{n}" for n in count())


class Sink(FakeSink):
    """Finds readings again in what was offered."""

    def readings(self, point: int) -> list[tuple[ValueType, Any, int, int, int, int]]:
        """(type, value or None, status, time, basis, flags) of a point, in order."""
        found = []
        for batch in self.batches:
            for row in range(len(batch)):
                if batch.points[row] == point:
                    value = batch.values[row]
                    value = value.item() if hasattr(value, "item") else value
                    found.append(
                        (
                            batch.type,
                            value if batch.valid[row] else None,
                            int(batch.status[row]),
                            int(batch.source_time[row]),
                            int(batch.basis[row]),
                            int(batch.flags[row]),
                        )
                    )
        return found


class Plant:
    """One test's corner of a server."""

    def __init__(self, server: Server, port: int, uri: str, namespace: int) -> None:
        self.server = server
        self.port = port
        self.uri = uri
        self.namespace = namespace

    async def add(self, name: str, value: Any, type: ua.VariantType) -> None:
        await self.server.nodes.objects.add_variable(
            ua.NodeId(name, self.namespace), ua.QualifiedName(name, self.namespace), value, varianttype=type
        )

    async def write(self, name: str, value: ua.DataValue) -> None:
        await self.server.write_attribute_value(ua.NodeId(name, self.namespace), value)

    def point(self, name: str, **keys: Any) -> dict[str, Any]:
        return {"point": name, "node": f"nsu={self.uri};s={name}", **keys}

    def config(self, *points: dict[str, Any], port: int | None = None, **keys: Any) -> OpcUaDeviceConfig:
        """A device file with these points, by default one named level; `port` of a proxy instead of the server's."""
        connection = {"url": f"opc.tcp://127.0.0.1:{port or self.port}", "timeout": "2s", **keys.pop("connection", {})}
        return OpcUaDeviceConfig.model_validate(
            {
                "device": "reactor",
                "adapter": "opcua",
                "connection": connection,
                "subscribe": {"publishing": "50ms", "sampling": "50ms", "queue": "1s"},
                "points": points or [self.point("level")],
                **keys,
            }
        )


class OneUser(UserManager):
    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("gateway", "right") else None


@asynccontextmanager
async def serving(users: UserManager | None = None) -> AsyncIterator[tuple[Server, int]]:
    server = Server(user_manager=users)
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    async with server:
        yield server, port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_server() -> AsyncIterator[tuple[Server, int]]:
    async with serving() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def login_server() -> AsyncIterator[tuple[Server, int]]:
    async with serving(OneUser()) as made:
        yield made


async def corner(server: Server, port: int) -> Plant:
    uri = next(_uris)
    return Plant(server, port, uri, await server.register_namespace(uri))


@pytest_asyncio.fixture(loop_scope="module")
async def p(open_server: tuple[Server, int]) -> Plant:
    return await corner(*open_server)


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(login_server: tuple[Server, int]) -> Plant:
    return await corner(*login_server)


@pytest_asyncio.fixture(loop_scope="module")
async def wire(p: Plant) -> AsyncIterator[OpcUaWire]:
    async with OpcUaWire("127.0.0.1", p.port) as made:
        yield made


def build(checked: OpcUaDeviceConfig, first: int = 0, **keys: Any) -> OpcUaAdapter:
    points = [Point(first + i, p) for i, p in enumerate(checked.points)]
    return OpcUaAdapter(checked, points, SystemClock(), **keys)


@asynccontextmanager
async def running(adapter: Any, sink: Sink) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(adapter.run(sink), name="adapter")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(sink: Sink, task: asyncio.Task[None], index: int, count: int = 1) -> None:
    await eventually(lambda: task.done() or len(sink.readings(index)) >= count, message=f"readings of point {index}")
    if task.done():
        task.result()


GUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
DAY = datetime.datetime(2026, 3, 1, 8, 30, 0, 250000, tzinfo=datetime.UTC)
VALUES: dict[str, tuple[Any, ua.VariantType, ValueType, Any]] = {
    "bool": (True, ua.VariantType.Boolean, ValueType.BOOL, True),
    "sbyte": (-5, ua.VariantType.SByte, ValueType.INT64, -5),
    "byte": (200, ua.VariantType.Byte, ValueType.UINT64, 200),
    "int16": (-30000, ua.VariantType.Int16, ValueType.INT64, -30000),
    "uint16": (60000, ua.VariantType.UInt16, ValueType.UINT64, 60000),
    "int32": (-(2**31), ua.VariantType.Int32, ValueType.INT64, -(2**31)),
    "uint32": (2**32 - 1, ua.VariantType.UInt32, ValueType.UINT64, 2**32 - 1),
    "int64": (-(2**63), ua.VariantType.Int64, ValueType.INT64, -(2**63)),
    "uint64": (2**64 - 1, ua.VariantType.UInt64, ValueType.UINT64, 2**64 - 1),
    "float": (1.5, ua.VariantType.Float, ValueType.FLOAT32, 1.5),
    "double": (20.1, ua.VariantType.Double, ValueType.FLOAT64, 20.1),
    "string": ("温度", ua.VariantType.String, ValueType.STRING, "温度"),
    "datetime": (DAY, ua.VariantType.DateTime, ValueType.STRING, "2026-03-01T08:30:00.2500000Z"),
    "guid": (GUID, ua.VariantType.Guid, ValueType.STRING, str(GUID)),
    "bytes": (b"\x00\xff", ua.VariantType.ByteString, ValueType.BYTES, b"\x00\xff"),
    "text": (ua.LocalizedText("running", "en"), ua.VariantType.LocalizedText, ValueType.STRING, "running"),
    "doubles": ([1.0, 2.5], ua.VariantType.Double, ValueType.JSON, [1.0, 2.5]),
    "strings": (["a", "b"], ua.VariantType.String, ValueType.JSON, ["a", "b"]),
    "blobs": ([b"\x01"], ua.VariantType.ByteString, ValueType.JSON, [base64.b64encode(b"\x01").decode()]),
    "node": (ua.NodeId("x", 2), ua.VariantType.NodeId, ValueType.STRING, "ns=2;s=x"),
    "structure": (ua.Range(1.0, 9.0), ua.VariantType.ExtensionObject, ValueType.JSON, {"Low": 1.0, "High": 9.0}),
}


async def test_every_type_arrives_with_its_value_status_and_time(p: Plant) -> None:
    for name, (value, type, _, _) in VALUES.items():
        await p.add(name, value, type)
        await p.write(name, ua.DataValue(ua.Variant(value, type), SourceTimestamp=DAY))
    sink = Sink()
    adapter = build(p.config(*(p.point(name) for name in VALUES)), first=100)
    async with running(adapter, sink) as task:
        for i, (name, (_, _, expected_type, expected)) in enumerate(VALUES.items()):
            await seen(sink, task, 100 + i)
            type, value, status, at, basis, flags = sink.readings(100 + i)[0]
            assert (name, type, value) == (name, expected_type, expected)
            assert (status, basis, flags) == (0, Basis.SOURCE, Flag.INITIAL), name
            assert at == int(DAY.timestamp() * 1000) * 10**6, name
        assert sink.onlines
        assert sink.gaps == []
        origin = sink.origins[0]
        assert origin is not None
        assert origin.server
        assert origin.sequence == 1


async def test_bad_status_null_and_missing_time_are_readings(p: Plant) -> None:
    await p.add("level", 1.0, ua.VariantType.Float)
    sink = Sink()
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        before = time.time_ns()
        await p.write("level", ua.DataValue(ua.Variant(None), ua.StatusCode(0x808C0000)))
        await seen(sink, task, 0, 2)
        type, value, status, at, basis, flags = sink.readings(0)[1]
        assert (type, value, status, basis, flags) == (ValueType.FLOAT32, None, 0x808C0000, Basis.GATEWAY, 0)
        assert before <= at <= time.time_ns()


async def test_a_server_time_stands_in_for_a_missing_source_time(p: Plant) -> None:
    await p.add("level", 1.0, ua.VariantType.Float)
    sink = Sink()
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        await p.write("level", ua.DataValue(ua.Variant(2.0, ua.VariantType.Float), ServerTimestamp=DAY))
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][3:5] == (int(DAY.timestamp() * 1000) * 10**6, Basis.SERVER)


async def test_an_unknown_node_is_one_bad_reading_and_comes_back(p: Plant) -> None:
    await p.add("good", 1.0, ua.VariantType.Double)
    sink = Sink()
    points = [p.point("late"), p.point("good"), {"point": "foreign", "node": "nsu=http://nowhere;s=x"}]
    async with running(build(p.config(*points), retry_s=0.2), sink) as task:
        await seen(sink, task, 0)
        await seen(sink, task, 1)
        await seen(sink, task, 2)
        assert sink.readings(0)[0][1:3] == (None, BAD_NODE_ID_UNKNOWN)
        assert sink.readings(1)[0][1:3] == (1.0, 0)
        assert sink.readings(2)[0][1:3] == (None, BAD_NODE_ID_UNKNOWN)
        await p.add("late", 7, ua.VariantType.Int32)
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][:3] == (ValueType.INT64, 7, 0)
        assert len(sink.readings(2)) == 1


async def test_configured_type_is_enforced(p: Plant) -> None:
    await p.add("count", 5.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(p.point("count", type="int16"))), sink) as task:
        await seen(sink, task, 0)
        assert sink.readings(0)[0][:3] == (ValueType.INT64, 5, 0)
        await p.write("count", ua.DataValue(ua.Variant(5.5, ua.VariantType.Double)))
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][:3] == (ValueType.INT64, None, BAD_TYPE_MISMATCH)


async def test_many_values_per_notification_keep_their_order(p: Plant) -> None:
    await p.add("fast", 0, ua.VariantType.Int32)
    sink = Sink()
    checked = p.config(p.point("fast"), subscribe={"publishing": "200ms", "sampling": "50ms", "queue": "100s"})
    async with running(build(checked), sink) as task:
        await seen(sink, task, 0)
        for i in range(1, 200):
            bad = ua.StatusCode(0x40900000) if i % 3 else ua.StatusCode()
            await p.write("fast", ua.DataValue(ua.Variant(i, ua.VariantType.Int32), bad))
        await seen(sink, task, 0, 200)
        assert [reading[1] for reading in sink.readings(0)] == list(range(200))


async def test_acknowledges_only_what_is_durable(p: Plant, wire: OpcUaWire) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink = Sink()
    sink.commit.clear()
    async with running(build(p.config(port=wire.port)), sink) as task:
        for i in range(1, 12):
            await p.write("level", ua.DataValue(ua.Variant(float(i), ua.VariantType.Double)))
            await eventually(lambda i=i: sink.readings(0) and sink.readings(0)[-1][1] == float(i))
        offered = {origin.sequence for origin in sink.origins if origin}
        assert len(offered) > 4, "more notifications than outstanding requests came without any acknowledgement"
        assert wire.acknowledged() == []
        sink.commit.set()

        async def all_acknowledged() -> bool:
            await p.write("level", ua.DataValue(ua.Variant(time.monotonic(), ua.VariantType.Double)))
            return {sequence for _, sequence in wire.acknowledged()} >= offered

        await eventually(all_acknowledged, message="acknowledgements after the commit")
        assert not task.done()
    numbers = [sequence for _, sequence in wire.acknowledged()]
    assert len(numbers) == len(set(numbers)), "nothing is acknowledged twice"
    wire.assert_read_only()


async def test_back_pressure_stops_publish_requests(p: Plant, wire: OpcUaWire) -> None:
    await p.add("level", 0, ua.VariantType.Int32)
    sink = Sink()
    checked = p.config(port=wire.port, subscribe={"publishing": "50ms", "sampling": "50ms", "queue": "60s"})
    async with running(build(checked), sink) as task:
        await seen(sink, task, 0)
        sink.room.clear()
        written = count(1)

        async def all_requests_answered() -> bool:
            value = ua.Variant(next(written), ua.VariantType.Int32)
            await p.write("level", ua.DataValue(value))
            return wire.responses.count(PUBLISH_RESPONSE) == wire.count(PUBLISH)

        await eventually(all_requests_answered, message="no PublishRequest is left at the server")
        assert sink.blocked == 1
        await p.write("level", ua.DataValue(ua.Variant(last := next(written), ua.VariantType.Int32)))
        sink.room.set()
        await eventually(lambda: sink.readings(0)[-1][1] == last)
        assert [reading[1] for reading in sink.readings(0)] == list(range(last + 1)), (
            "the server kept what we did not take"
        )
        assert not task.done()


async def test_a_missing_notification_is_asked_for_again(p: Plant, wire: OpcUaWire) -> None:
    await p.add("level", 0, ua.VariantType.Int32)
    sink = Sink()
    sink.commit.clear()

    def renumber(type_id: int, chunk: bytes) -> bytes:
        """Number the answer that carries 77 one too high, as if one notification had been lost before it."""
        at = chunk.find(struct.pack("<BBi", 0x05, 6, 77))
        at = at if at >= 0 else chunk.find(struct.pack("<Bi", 6, 77))
        if type_id != PUBLISH_RESPONSE or at < 0:
            return chunk
        body = chunk[24:]
        available = struct.unpack_from("<i", body, 4 + 24 + 4)[0]
        start = 24 + 4 + 24 + 4 + 4 + 4 * max(available, 0) + 1
        sequence = struct.unpack_from("<I", chunk, start)[0]
        return chunk[:start] + struct.pack("<I", sequence + 1) + chunk[start + 4 :]

    wire.tamper = renumber
    async with running(build(p.config(port=wire.port)), sink) as task:
        await seen(sink, task, 0)
        await p.write("level", ua.DataValue(ua.Variant(77, ua.VariantType.Int32)))
        await seen(sink, task, 0, 3)
        assert [reading[1] for reading in sink.readings(0)] == [0, 77, 77]
        assert wire.count(REPUBLISH) == 1
        assert sink.gaps == []
    wire.assert_read_only()


async def test_a_server_that_stops_is_a_lost_link(p: Plant, wire: OpcUaWire) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(port=wire.port)), sink) as task:
        await seen(sink, task, 0)
        wire.cut()
        await eventually(task.done)
        with pytest.raises(LinkLost):
            task.result()


async def test_a_server_that_shuts_down_is_a_lost_link() -> None:
    async with serving() as (server, port):
        p = await corner(server, port)
        await p.add("level", 0.0, ua.VariantType.Double)
        sink = Sink()
        async with running(build(p.config()), sink) as task:
            await seen(sink, task, 0)
            await server.stop()
            await eventually(task.done)
            with pytest.raises(LinkLost):
                task.result()
        await server.start()


async def test_a_subscription_that_the_server_ends_is_a_lost_link(p: Plant) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        origin = sink.origins[0]
        assert origin is not None
        subscription = p.server.iserver.subscription_service.subscriptions[origin.subscription]
        await subscription.enqueue_statuschange(ua.StatusCode(ua.UInt32(0x800A0000)))
        await p.write("level", ua.DataValue(ua.Variant(1.0, ua.VariantType.Double)))
        await eventually(task.done)
        with pytest.raises(LinkLost, match="ended the subscription with BadTimeout"):
            task.result()
        assert sink.readings(0)[-1][1] == 1.0, "what came with the end is not lost"


async def test_items_are_created_in_batches_that_the_server_takes(p: Plant, wire: OpcUaWire) -> None:
    names = [f"n{i}" for i in range(25)]
    for name in names:
        await p.add(name, 1.0, ua.VariantType.Double)
    limit = p.server.get_node(ua.NodeId(11714))
    await limit.write_value(ua.UInt32(10))
    try:
        sink = Sink()
        async with running(build(p.config(*map(p.point, names), port=wire.port)), sink) as task:
            for i in range(25):
                await seen(sink, task, i)
        assert wire.count(751) == 3
    finally:
        await limit.write_value(ua.UInt32(0))


async def test_nobody_listens(p: Plant) -> None:
    with pytest.raises(LinkLost, match=r"connection\.url"):
        await build(p.config(port=free_port())).run(Sink())


async def test_a_silent_server_is_a_lost_link(p: Plant, wire: OpcUaWire) -> None:
    wire.freeze()
    checked = p.config(port=wire.port, connection={"timeout": "300ms"})
    with pytest.raises(LinkLost, match="no answer in time"):
        await build(checked).run(Sink())


@pytest.mark.parametrize("user", [None, {"name": "gateway", "password": "wrong"}])
async def test_a_refused_login_says_what_to_do(guarded: Plant, user: dict[str, str] | None) -> None:
    checked = guarded.config(connection={"user": user, "allow_insecure_password": True})
    with pytest.raises(Refused, match=r"check connection\.user"):
        await build(checked).run(Sink())


async def test_a_login_that_the_server_accepts(guarded: Plant) -> None:
    await guarded.add("level", 4.0, ua.VariantType.Double)
    user = {"name": "gateway", "password": "right"}
    sink = Sink()
    checked = guarded.config(connection={"user": user, "allow_insecure_password": True})
    async with running(build(checked), sink) as task:
        await seen(sink, task, 0)


@pytest.mark.parametrize("frozen", [False, True], ids=["the server answers", "the server is silent"])
async def test_cancellation_closes_within_two_seconds(p: Plant, wire: OpcUaWire, frozen: bool) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(port=wire.port)), sink) as task:
        await seen(sink, task, 0)
        if frozen:
            wire.freeze()
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 2
        wire.resume()
        await eventually(lambda: wire.open_connections == 0, 2)
    if not frozen:
        assert wire.count(473) == 1, "the session was closed, not left behind"


async def test_cancellation_while_connecting(p: Plant, wire: OpcUaWire) -> None:
    wire.freeze()
    async with running(build(p.config(port=wire.port)), Sink()) as task:
        await eventually(lambda: wire.open_connections == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.resume()
        await eventually(lambda: wire.open_connections == 0, 2)


async def test_the_entry_point_builds_an_adapter_that_runs_again(p: Plant, wire: OpcUaWire) -> None:
    await p.add("level", 1.0, ua.VariantType.Double)
    checked = p.config(port=wire.port)
    adapter = ADAPTER.build(checked, [Point(3, checked.points[0])], SystemClock())
    for _ in range(2):
        sink = Sink()
        async with running(adapter, sink) as task:
            await seen(sink, task, 3)
            assert sink.readings(3)[0][5] == Flag.INITIAL
    assert wire.connections == 2
    wire.assert_read_only()


async def test_session_and_channel_are_kept_alive(p: Plant, wire: OpcUaWire) -> None:
    checked = p.config(port=wire.port)
    async with open_session(checked.connection, checked.load) as session:
        session.client.session_timeout = 150
        session.client.secure_channel_timeout = 100
        before = wire.count(631), wire.count(446)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(session.stay_alive(), name="stay alive")
            await eventually(lambda: wire.count(631) >= before[0] + 3 and wire.count(446) >= before[1] + 3)
            task.cancel()
