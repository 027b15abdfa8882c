"""A server that changes the definition of a structure while we are connected, and says so (StructureChanged)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua

from adapters.opcua.model.changes import STRUCTURE_CHANGED
from tests.support.broker import free_port
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, device, running
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
READ = 631
NUMBER, COUNT = ua.NodeId(11), ua.NodeId(8)  # type: ignore[arg-type]  # Double, Int64


def field(name: str, type: ua.NodeId) -> ua.StructureField:
    found = ua.StructureField()
    found.Name, found.DataType, found.ValueRank = name, type, -1  # type: ignore[assignment]
    return found


class Plant:
    """A server with one value of a type of its own."""

    def __init__(self, server: Server, port: int, index: int) -> None:
        self.port = port
        self._server = server
        self._index = index
        self._encoding = ua.NodeId("Pair binary", index)
        self.value = ua.NodeId("pair", index)

    async def make(self) -> None:
        structure: Any = self._server.get_node(ua.NodeId(22))  # type: ignore[arg-type]
        self._type = await structure.add_data_type(ua.NodeId("Pair", self._index), "Pair")
        await self.define(field("level", NUMBER), field("count", COUNT))
        await self._server.nodes.objects.add_variable(
            self.value, ua.QualifiedName("pair", self._index), self._content("<dq", 0.5, 1), datatype=self._type.nodeid
        )

    def _content(self, layout: str, *values: Any) -> ua.Variant:
        body = struct.pack(layout, *values)
        return ua.Variant(ua.ExtensionObject(self._encoding, body), ua.VariantType.ExtensionObject)

    async def define(self, *fields: ua.StructureField) -> None:
        definition = ua.StructureDefinition(
            DefaultEncodingId=self._encoding, StructureType=ua.StructureType.Structure, Fields=list(fields)
        )
        await self._type.write_attribute(ua.AttributeIds.DataTypeDefinition, ua.DataValue(ua.Variant(definition)))

    async def write(self, layout: str, *values: Any, status: int = 0) -> None:
        content = ua.DataValue(self._content(layout, *values), ua.StatusCode(ua.UInt32(status)))
        await self._server.write_attribute_value(self.value, content)


@pytest_asyncio.fixture(loop_scope="module")
async def plant() -> AsyncIterator[Plant]:
    server = Server()
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    made = Plant(server, port, await server.register_namespace("http://changes.test/"))
    await made.make()
    async with server:
        yield made


@pytest.mark.parametrize("keys", [{}, {"poll": "100ms"}], ids=["subscribed", "polled"])
async def test_a_reading_that_says_so_is_decoded_by_the_new_definition(plant: Plant, keys: dict[str, str]) -> None:
    sink = KeepingSink()
    async with OpcUaWire("127.0.0.1", plant.port) as wire:
        config = device(wire.port, [plant.value.to_string()], **keys)
        async with running(adapter_of(config), sink) as task:
            await all_heard(sink, task, 1)
            assert sink.values(0)[0] == {"level": 0.5, "count": 1}
            # Of the same size: without the bit nothing shows that the fields have changed places.
            await plant.define(field("count", COUNT), field("level", NUMBER))
            flagged = STRUCTURE_CHANGED | 0x400
            await plant.write("<qd", 2, 1.5, status=flagged)
            await eventually(lambda: any(reading.status == flagged for reading in sink.readings(0)))
            before = wire.count(READ)
            await plant.write("<qd", 3, 2.5)
            await eventually(lambda: sink.readings(0)[-1].status == 0 and sink.values(0)[-1]["count"] == 3)
            assert not task.done()
            asked = wire.count(READ) - before
    values = [reading.value for reading in sink.readings(0) if reading.status == flagged]
    assert values[0] == {"count": 2, "level": 1.5}, "already the reading that says so"
    assert sink.values(0)[-1] == {"count": 3, "level": 2.5}
    assert keys or asked <= 2, "nothing is asked again without a reason"


async def test_a_server_that_says_so_with_every_value_is_not_asked_each_time(plant: Plant) -> None:
    sink = KeepingSink()
    flagged = STRUCTURE_CHANGED | 0x400
    async with (
        OpcUaWire("127.0.0.1", plant.port) as wire,
        running(adapter_of(device(wire.port, [plant.value.to_string()])), sink) as task,
    ):
        await all_heard(sink, task, 1)
        before = wire.count(READ)
        for n in range(5):
            await plant.write("<dq", 0.5, n, status=flagged)
            await eventually(lambda n=n: sink.values(0)[-1]["count"] == n)
        assert wire.count(READ) - before <= 8, "a type and its definition once, and the keep-alive"
        wire.assert_read_only()
