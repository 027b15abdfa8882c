"""The OPC UA adapter's link to a real server, with a proxy between them that shows what goes over the wire."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio
from asyncua import Server, ua

from adapters.opcua import ADAPTER
from adapters.opcua.connecting.connect import open_session
from gateway.contract import Flag, LinkLost, Point, Refused, SystemClock
from tests.support.broker import free_port
from tests.support.opcua_corner import OneUser, Plant, Sink, build, corner, seen, serving
from tests.support.opcua_rig import running
from tests.support.opcua_wire import PUBLISH, REPUBLISH, OpcUaWire
from tests.support.wait import eventually

PUBLISH_RESPONSE = 829

# A server takes seconds to start, so that all tests share two; each test has a namespace of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_server() -> AsyncIterator[tuple[Server, int]]:
    async with serving() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def login_server() -> AsyncIterator[tuple[Server, int]]:
    async with serving(OneUser()) as made:
        yield made


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


async def test_a_subscription_that_the_server_ends_is_made_anew_over_the_same_session(
    p: Plant, wire: OpcUaWire
) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(port=wire.port)), sink) as task:
        await seen(sink, task, 0)
        origin = sink.origins[0]
        assert origin is not None
        subscription = p.server.iserver.subscription_service.subscriptions[origin.subscription]
        await p.write("level", ua.DataValue(ua.Variant(1.0, ua.VariantType.Double)))
        await subscription.enqueue_statuschange(ua.StatusCode(ua.UInt32(0x800A0000)))
        await eventually(lambda: sink.gaps, message="the gap that tells of the loss")
        assert 1.0 in [reading[1] for reading in sink.readings(0)], "what came with the end is not lost"
        await p.write("level", ua.DataValue(ua.Variant(2.0, ua.VariantType.Double)))
        await eventually(lambda: sink.readings(0)[-1][1] == 2.0, message="data of the new subscription")
        (gap,) = sink.gaps
        assert gap.reason == "subscription-lost"
        assert not task.done()
        newest = sink.origins[-1]
        assert newest is not None
        assert newest.subscription != origin.subscription
        assert origin.subscription not in p.server.iserver.subscription_service.subscriptions
    assert wire.connections == 1
    wire.assert_read_only()


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
        started = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() - started < 2
        wire.resume()
        await eventually(lambda: wire.open_connections == 0)
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
        await eventually(lambda: wire.open_connections == 0)


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
            task = group.create_task(session.stay_alive(Sink(), SystemClock()), name="stay alive")
            await eventually(lambda: wire.count(631) >= before[0] + 3 and wire.count(446) >= before[1] + 3)
            task.cancel()
