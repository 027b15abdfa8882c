"""Poll mode against a real server, with a proxy between them that shows what goes over the wire."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import logging
import math
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua

from gateway.contract import Basis, LinkLost, ValueType
from gateway.contract.status import BAD_NODE_ID_UNKNOWN
from tests.support.broker import free_port
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, device, running
from tests.support.opcua_wire import PUBLISH, OpcUaWire
from tests.support.own_time import OwnClock
from tests.support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
READ, CREATE_SUBSCRIPTION, CREATE_ITEMS = 631, 787, 751
URI = "http://plant.test/poll"
T = ua.VariantType
ANY = ua.NodeId(24)  # type: ignore[arg-type]  # BaseDataType
DAY = datetime.datetime(2026, 3, 1, 8, 30, 0, 250000, tzinfo=datetime.UTC)
DAY_NS = int(DAY.timestamp() * 1000) * 10**6

_nested = ua.Variant([ua.Variant([1.5], T.Double), ua.Variant("a", T.String)], T.Variant)
VALUES: dict[str, tuple[ua.Variant, ValueType, Any]] = {
    "bool": (ua.Variant(True, T.Boolean), ValueType.BOOL, True),
    "int16": (ua.Variant(-30000, T.Int16), ValueType.INT64, -30000),
    "int64": (ua.Variant(-(2**63), T.Int64), ValueType.INT64, -(2**63)),
    "uint64": (ua.Variant(2**64 - 1, T.UInt64), ValueType.UINT64, 2**64 - 1),
    "float": (ua.Variant(1.5, T.Float), ValueType.FLOAT32, 1.5),
    "double": (ua.Variant(20.1, T.Double), ValueType.FLOAT64, 20.1),
    "infinite": (ua.Variant(-math.inf, T.Double), ValueType.FLOAT64, -math.inf),
    "string": (ua.Variant("温度", T.String), ValueType.STRING, "温度"),
    "time": (ua.Variant(DAY, T.DateTime), ValueType.STRING, "2026-03-01T08:30:00.2500000Z"),
    "bytes": (ua.Variant(b"\x00\xff", T.ByteString), ValueType.BYTES, b"\x00\xff"),
    "blobs": (ua.Variant([b"\x01"], T.ByteString), ValueType.JSON, ["AQ=="]),
    "doubles": (ua.Variant([1.0, 2.5], T.Double), ValueType.JSON, [1.0, 2.5]),
    "matrix": (ua.Variant([[1, 2], [3, 4]], T.Int32, Dimensions=[2, 2]), ValueType.JSON, [[1, 2], [3, 4]]),
    "variants": (_nested, ValueType.JSON, [[1.5], "a"]),
    "structure": (ua.Variant(ua.Range(1.0, 9.0), T.ExtensionObject), ValueType.JSON, {"Low": 1.0, "High": 9.0}),
    "text": (ua.Variant(ua.LocalizedText("running", "en"), T.LocalizedText), ValueType.STRING, "running"),
}


class Plant:
    """A server whose nodes are polled."""

    def __init__(self, server: Server, port: int, index: int) -> None:
        self.server = server
        self.port = port
        self.index = index

    async def add(self, name: str, value: ua.Variant) -> None:
        await self.server.nodes.objects.add_variable(
            ua.NodeId(name, self.index), ua.QualifiedName(name, self.index), value, datatype=ANY
        )
        await self.write(name, value)

    async def write(self, name: str, value: ua.Variant, status: int = 0) -> None:
        content = ua.DataValue(value, ua.StatusCode(ua.UInt32(status)), DAY.replace(tzinfo=None))
        await self.server.write_attribute_value(ua.NodeId(name, self.index), content)

    def node(self, name: str) -> str:
        return f"nsu={URI};s={name}"


async def started(port: int, *before: str) -> Plant:
    """`before`: namespaces that the server has before that of its nodes."""
    server = Server()
    await server.init()
    for uri in before:
        await server.register_namespace(uri)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    plant = Plant(server, port, await server.register_namespace(URI))
    for name, (value, _, _) in VALUES.items():
        await plant.add(name, value)
    for n in range(30):
        await plant.add(f"n{n}", ua.Variant(float(n), T.Double))
    await server.start()
    return plant


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant() -> AsyncIterator[Plant]:
    made = await started(free_port())
    yield made
    await made.server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def wire(plant: Plant) -> AsyncIterator[OpcUaWire]:
    async with OpcUaWire("127.0.0.1", plant.port) as made:
        yield made


def reads(wire: OpcUaWire) -> list[float]:
    return [request.at for request in wire.requests if request.type_id == READ]


async def test_every_type_arrives_polled_and_no_subscription_is_made(plant: Plant, wire: OpcUaWire) -> None:
    sink = KeepingSink()
    config = device(wire.port, map(plant.node, VALUES), poll="100ms")
    async with running(adapter_of(config), sink) as task:
        await all_heard(sink, task, len(VALUES))
        await eventually(lambda: len(sink.readings(0)) >= 5, message="a reading in each cycle")
        assert not task.done()
    for point, (name, (_, type, expected)) in enumerate(VALUES.items()):
        for reading in sink.readings(point):
            assert (name, reading.type, reading.value) == (name, type, expected)
            assert (reading.status, reading.time, reading.flags) == (0, DAY_NS, 0), "the source's time, as told"
    assert {wire.count(service) for service in (CREATE_SUBSCRIPTION, CREATE_ITEMS, PUBLISH)} == {0}
    assert sink.onlines
    assert sink.gaps == []
    wire.assert_read_only()


async def test_a_gateway_clock_gives_each_cycle_its_own_time(plant: Plant) -> None:
    sink = KeepingSink()
    async with running(adapter_of(device(plant.port, [plant.node("n1")], poll="50ms", clock="gateway")), sink):
        await eventually(lambda: len(sink.readings(0)) >= 4)
    times = [reading.time for reading in sink.readings(0)]
    assert all(b > a for a, b in itertools.pairwise(times))
    assert abs(times[0] - time.time_ns()) < 60e9
    assert {basis for batch in sink.batches for basis in batch.basis.tolist()} == {Basis.GATEWAY}


async def test_cycles_are_on_time_and_within_the_budget(plant: Plant, wire: OpcUaWire) -> None:
    sink = KeepingSink()
    config = device(wire.port, [plant.node(f"n{n}") for n in range(30)], poll="500ms", load={"requests_per_s": 20.0})
    adapter = adapter_of(config, OwnClock())
    assert adapter.facts().polls is None
    async with running(adapter, sink) as task:
        await all_heard(sink, task, 30)
        await eventually(lambda: len(sink.readings(0)) >= 8)
        facts = adapter.facts()
        assert (facts.polls or 0) >= 8, "the metrics know of it"
        assert (facts.timeouts, facts.bad_replies) == (0, 0)
        ends = [batch.received_time for batch in sink.batches if 0 in batch.points]
    periods_s = [(b - a) / 1e9 for a, b in itertools.pairwise(ends)]
    assert abs(statistics.median(periods_s) - 0.5) < 0.05
    sent = [request.at for request in wire.requests]
    assert max(sum(at <= other < at + 1 for other in sent) for at in sent) <= 21


async def test_polled_and_subscribed_points_of_one_device(plant: Plant, wire: OpcUaWire) -> None:
    sink = KeepingSink()
    points = [
        {"point": "fast", "node": plant.node("n1")},
        {"point": "slow", "node": plant.node("n2"), "poll": "100ms"},
    ]
    async with running(adapter_of(device(wire.port, [], points=points)), sink) as task:
        await all_heard(sink, task, 2)
        await eventually(lambda: len(sink.readings(1)) >= 4)
        await plant.write("n1", ua.Variant(11.0, T.Double))
        await eventually(lambda: sink.values(0)[-1] == 11.0)
        assert not task.done()
    assert len(sink.readings(0)) == 2, "subscribed: a change each"
    assert wire.count(CREATE_SUBSCRIPTION) == 1
    await plant.write("n1", ua.Variant(1.0, T.Double))


async def test_a_bad_node_is_a_bad_reading_each_cycle(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    sink = KeepingSink()
    config = device(plant.port, [plant.node("n1"), plant.node("late"), "nsu=http://nowhere;s=x"], poll="100ms")
    async with running(adapter_of(config, retry_s=0.3), sink) as task:
        await all_heard(sink, task, 3)
        await eventually(lambda: len(sink.readings(1)) >= 4)
        assert {reading.status for point in (1, 2) for reading in sink.readings(point)} == {BAD_NODE_ID_UNKNOWN}
        assert len([record for record in caplog.records if record.levelno == logging.WARNING
                    and "cannot be read" in record.getMessage()]) == 1  # fmt: skip
        await plant.add("late", ua.Variant(7, T.Int32))
        await eventually(lambda: sink.values(1) and sink.values(1)[-1] == 7)
        assert not task.done()
    assert {reading.status for reading in sink.readings(0)} == {0}


async def test_a_bad_status_with_a_value_and_without_are_readings(plant: Plant) -> None:
    sink = KeepingSink()
    await plant.write("n3", ua.Variant(3.5, T.Double), 0x40900000)
    await plant.write("n4", ua.Variant(None), 0x808C0000)
    async with running(
        adapter_of(device(plant.port, [plant.node("n3"), plant.node("n4")], poll="100ms")), sink
    ) as task:
        await all_heard(sink, task, 2)
    assert (sink.readings(0)[0].value, sink.readings(0)[0].status) == (3.5, 0x40900000)
    assert (sink.readings(1)[0].value, sink.readings(1)[0].status) == (None, 0x808C0000)
    await plant.write("n3", ua.Variant(3.0, T.Double))
    await plant.write("n4", ua.Variant(4.0, T.Double))


async def test_a_server_that_starts_again_with_other_namespace_indexes_is_polled_again() -> None:
    port = free_port()
    first = await started(port)
    config = device(port, [first.node("n1"), first.node("n2")], poll="100ms")
    adapter, sink = adapter_of(config), KeepingSink()
    async with running(adapter, sink) as task:
        await all_heard(sink, task, 2)
        await first.server.stop()
        await eventually(task.done)
        with pytest.raises(LinkLost):
            task.result()
    second = await started(port, "http://new.test/")
    assert second.index != first.index
    try:
        again = KeepingSink()
        async with running(adapter, again) as task:
            await all_heard(again, task, 2)
            await eventually(lambda: len(again.readings(1)) >= 3)
            assert set(again.values(1)) == {2.0}
    finally:
        await second.server.stop()


async def test_a_half_open_connection_is_found_by_its_silence(plant: Plant, wire: OpcUaWire) -> None:
    sink = KeepingSink()
    config = device(wire.port, [plant.node("n1")], poll="100ms", connection={"timeout": "500ms"})
    async with running(adapter_of(config), sink) as task:
        await all_heard(sink, task, 1)
        wire.freeze()
        began = asyncio.get_running_loop().time()
        await eventually(task.done)
        assert asyncio.get_running_loop().time() - began < 5
        with pytest.raises(LinkLost, match="no answer in time"):
            task.result()
