"""The adapter against node-opcua, an implementation that shares no code with ours or with our library."""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.contract import Flag, Refused, ValueType
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, device, running
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

CREATE_MONITORED_ITEMS = 751
BAD_SENSOR_FAILURE = 0x808C0000
UNCERTAIN_LAST_USABLE_VALUE = 0x40900000
COUNTERS = 5_000

# A server takes seconds to start, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("interop")
    limits = {"maxMonitoredItemsPerCall": 1000, "maxNodesPerRead": 100}
    async with interop_server(folder, counters=COUNTERS, quiet_time=True, limits=limits) as made:
        yield made


TYPES: dict[str, tuple[ValueType, Any]] = {
    "Boolean": (ValueType.BOOL, True),
    "SByte": (ValueType.INT64, -5),
    "Byte": (ValueType.UINT64, 200),
    "Int16": (ValueType.INT64, -30000),
    "UInt16": (ValueType.UINT64, 60000),
    "Int32": (ValueType.INT64, -(2**31)),
    "UInt32": (ValueType.UINT64, 2**32 - 1),
    "Int64": (ValueType.INT64, -(2**63)),
    "UInt64": (ValueType.UINT64, 2**64 - 1),
    "Float": (ValueType.FLOAT32, 1.5),
    "Double": (ValueType.FLOAT64, 20.1),
    "String": (ValueType.STRING, "温度"),
    "DateTime": (ValueType.STRING, "2026-03-01T08:30:00.2500000Z"),
    "Guid": (ValueType.STRING, "12345678-9abc-def0-1234-56789abcdef0"),
    "ByteString": (ValueType.BYTES, b"\x00\xff"),
    "XmlElement": (ValueType.STRING, "<a/>"),
    "NodeId": (ValueType.STRING, "ns=2;s=x"),
    "ExpandedNodeId": (ValueType.STRING, "ns=1;i=7"),
    "StatusCode": (ValueType.UINT64, 0x800A0000),
    "QualifiedName": (ValueType.STRING, "q"),
    "LocalizedText": (ValueType.STRING, "running"),
    "ExtensionObject": (ValueType.JSON, {"Low": 1.0, "High": 9.0}),
    "Doubles": (ValueType.JSON, [1.0, 2.5]),
    "Strings": (ValueType.JSON, ["a", "b"]),
    "Matrix": (ValueType.JSON, [[1, 2], [3, 4]]),
}


async def test_every_type(server: InteropServer) -> None:
    names = [*TYPES, "NotANumber"]
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, map(server.node, names))), sink) as task:
        await all_heard(sink, task, len(names))
    for point, (name, expected) in enumerate(TYPES.items()):
        reading = sink.readings(point)[0]
        assert (name, reading.type, reading.value) == (name, *expected)
        assert (reading.status, reading.flags) == (0, Flag.INITIAL), name
    # This server reports an unchanged NaN again and again, because it is not equal to itself.
    assert all(map(math.isnan, sink.values(len(TYPES))))
    assert sink.values(len(TYPES))
    assert sink.gaps == []
    assert all(origin and origin.server == "urn:interop.test:server" for _, origin in sink.offers)


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


async def first_data_of_five_thousand_s(server: InteropServer) -> float:
    async with OpcUaWire("127.0.0.1", server.port) as wire:
        sink = KeepingSink()
        nodes = [server.node(f"c{i}") for i in range(COUNTERS)]
        started = time.monotonic()
        adapter = adapter_of(device(wire.port, nodes, subscribe={"sampling": "1s", "publishing": "500ms"}))
        async with running(adapter, sink) as task:
            await all_heard(sink, task, COUNTERS, 30)
            took_s = time.monotonic() - started
            assert wire.count(CREATE_MONITORED_ITEMS) == COUNTERS // 1000
            wire.assert_read_only()
            await eventually(wire.acknowledged)
        assert sink.gaps == []
        return took_s


async def test_five_thousand_items_within_operation_limits(server: InteropServer) -> None:
    took = [await first_data_of_five_thousand_s(server)]
    while took[-1] >= 5 and len(took) < 3:  # whatever else this machine does does not count
        took.append(await first_data_of_five_thousand_s(server))
    assert took[-1] < 5, f"first data of {COUNTERS} items took {took} s"


async def test_a_user_and_a_wrong_password(tmp_path: Path) -> None:
    async with interop_server(tmp_path, user="gateway", password="right") as server:
        login = {"name": "gateway", "password": "right"}
        nodes = [server.node("Double")]
        sink = KeepingSink()
        config = device(server.port, nodes, connection={"user": login, "allow_insecure_password": True})
        async with running(adapter_of(config), sink) as task:
            await all_heard(sink, task, 1)
        for user in ({**login, "password": "wrong"}, None):
            config = device(server.port, nodes, connection={"user": user, "allow_insecure_password": True})
            with pytest.raises(Refused, match=r"check connection\.user"):
                await adapter_of(config).run(KeepingSink())


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_secure_channels(server: InteropServer, tmp_path: Path, policy: str, mode: str) -> None:
    sink = KeepingSink()
    connection = {"security": f"{policy}/{mode}", "pki": str(tmp_path / "pki")}
    with pytest.raises(Refused, match="is not trusted") as refused:
        await adapter_of(device(server.port, [server.node("Double")], connection=connection)).run(KeepingSink())
    pin = re.search(r'connection\.trust: "(.*)"', str(refused.value))
    assert pin is not None, "its certificate is for the host's name, not for 127.0.0.1"
    config = device(server.port, [server.node("Double")], connection={**connection, "trust": pin[1]})
    async with running(adapter_of(config), sink) as task:
        await all_heard(sink, task, 1)
    assert sink.values(0) == [20.1]
