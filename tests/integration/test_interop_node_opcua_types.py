"""Values of every type from node-opcua: scalars, arrays, matrices, structures, unions, enumerations, oddities."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.contract import Flag, ValueType
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    async with interop_server(tmp_path_factory.mktemp("types")) as made:
        yield made


BUILT_IN: dict[str, tuple[ValueType, Any, Any]] = {
    "Boolean": (ValueType.BOOL, True, False),
    "SByte": (ValueType.INT64, -5, 127),
    "Byte": (ValueType.UINT64, 200, 0),
    "Int16": (ValueType.INT64, -30000, 30000),
    "UInt16": (ValueType.UINT64, 60000, 0),
    "Int32": (ValueType.INT64, -(2**31), 2**31 - 1),
    "UInt32": (ValueType.UINT64, 2**32 - 1, 0),
    "Int64": (ValueType.INT64, -(2**63), 1),
    "UInt64": (ValueType.UINT64, 2**64 - 1, 1),
    "Float": (ValueType.FLOAT32, 1.5, -0.25),
    "Double": (ValueType.FLOAT64, 20.1, -1e300),
    "String": (ValueType.STRING, "温度", ""),
    "DateTime": (ValueType.STRING, "2026-03-01T08:30:00.2500000Z", "1999-12-31T00:00:00.0000000Z"),
    "Guid": (ValueType.STRING, "12345678-9abc-def0-1234-56789abcdef0", "00000000-0000-0000-0000-000000000001"),
    "ByteString": (ValueType.BYTES, b"\x00\xff", b"\x01"),
    "XmlElement": (ValueType.STRING, "<a/>", "<b>2</b>"),
    "NodeId": (ValueType.STRING, "ns=2;s=x", "i=7"),
    "ExpandedNodeId": (ValueType.STRING, "ns=1;i=7", "ns=2;s=y"),
    "StatusCode": (ValueType.UINT64, 0x800A0000, 0),
    "QualifiedName": (ValueType.STRING, "q", "r"),
    "LocalizedText": (ValueType.STRING, "running", "läuft"),
}
"""type -> its reading, the value of its node, the second value of its array"""

MOTOR = {"Speed": 1450.5, "Mode": 1, "Name": "M1", "Currents": [1.5, 2.5], "Since": "2026-01-02T00:00:00.0000000Z"}

OTHERS: dict[str, tuple[ValueType, Any]] = {
    "ExtensionObject": (ValueType.JSON, {"Low": 1.0, "High": 9.0}),
    "ExtensionObjectArray": (ValueType.JSON, [{"Low": 1.0, "High": 9.0}, {"Low": 2.0, "High": 3.0}]),
    "VariantArray": (ValueType.JSON, [1, "two", [3.0, 4.5]]),
    "Matrix": (ValueType.JSON, [[1, 2], [3, 4]]),
    "Cube": (ValueType.JSON, [[[1, 2, 3]], [[4, 5, 6]]]),
    "EmptyString": (ValueType.STRING, ""),
    "EmptyArray": (ValueType.JSON, []),
    "Infinities": (ValueType.JSON, [math.inf, -math.inf, -0.0]),
    "Mode": (ValueType.INT64, 1),
    "Alarm": (ValueType.INT64, -10),
    "Motor": (ValueType.JSON, MOTOR),
    "Station": (ValueType.JSON, {"Motors": [MOTOR, {**MOTOR, "Name": "", "Currents": []}], "Limit": 5.0}),
    "Number": (ValueType.JSON, {"Number": 2.5}),
    "Text": (ValueType.JSON, {"Text": "ok"}),
}
"""What has no built-in type of its own. node-opcua writes a null text inside a structure as an empty one."""


def in_json(value: Any) -> Any:
    return "AP8=" if value == b"\x00\xff" else "AQ==" if value == b"\x01" else value


def expected() -> dict[str, tuple[ValueType, Any]]:
    found: dict[str, tuple[ValueType, Any]] = {}
    for name, (kind, first, second) in BUILT_IN.items():
        a, b = in_json(first), in_json(second)
        found[name] = kind, first
        found[f"{name}Array"] = ValueType.JSON, [a, b]
        found[f"{name}Matrix"] = ValueType.JSON, [[a, b], [b, a]]
    return found | OTHERS


async def test_every_type(server: InteropServer) -> None:
    wanted = expected()
    async with OpcUaWire("127.0.0.1", server.port) as wire:
        sink = KeepingSink()
        config = device(wire.port, map(server.node, wanted))
        async with running(adapter_of(config), sink) as task:
            await all_heard(sink, task, len(wanted))
        wire.assert_read_only()
    for point, (name, value) in enumerate(wanted.items()):
        (reading,) = sink.readings(point)
        assert (name, reading.type, reading.value) == (name, *value)
        assert (reading.status, reading.flags) == (0, Flag.INITIAL), name
    assert sink.gaps == []
    assert all(origin and origin.server == "urn:interop.test:server" for _, origin in sink.offers)


async def test_no_value_and_not_a_number(server: InteropServer) -> None:
    names = ["NullString", "NullByteString", "NotANumber", "NotANumberFloat"]
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, map(server.node, names))), sink) as task:
        await all_heard(sink, task, len(names))
    for point in (0, 1):
        assert {(reading.value, reading.status) for reading in sink.readings(point)} == {(None, 0)}, names[point]
    for point in (2, 3):
        # This server reports an unchanged NaN again and again, because it is not equal to itself.
        assert sink.values(point), names[point]
        assert all(map(math.isnan, sink.values(point)))


async def test_a_node_that_returns_with_another_type(server: InteropServer) -> None:
    """As after a PLC download; the namespace index stays, see the restart for the other half."""
    await server.tell("add", node="changing", type="Int32", value=7)
    sink = KeepingSink()
    config = device(server.port, [server.node("changing"), server.node("Double")])
    async with running(adapter_of(config, retry_s=0.5), sink) as task:
        await all_heard(sink, task, 2)
        await server.tell("delete", nodes=["changing"])
        await eventually(lambda: sink.readings(0)[-1].status >> 31, message="the node is gone")
        await server.tell("add", node="changing", type="String", value="sieben")
        await eventually(lambda: sink.values(0)[-1] == "sieben", message="the node is back")
    assert [reading.value for reading in sink.readings(1)] == [20.1], "the other point was not touched"
    assert sink.gaps == []
