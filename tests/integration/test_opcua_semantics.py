"""Texts of enumerations and changes of units, read from a real server: batched, and with no Call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import Server, ua

from adapters.opcua.config import OpcUaPointConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.decode import Items
from adapters.opcua.model.changes import SEMANTICS_CHANGED
from adapters.opcua.model.semantics import Semantics
from tests.support.broker import free_port
from tests.support.fake_sink import FakeSink
from tests.support.opcua_rig import device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
URI = "http://plant.test/semantics"
BROWSE, READ = 527, 631
T = ua.VariantType


def text(value: str) -> ua.LocalizedText:
    return ua.LocalizedText(value, "en")


class Plant:
    """A server with points whose numbers have texts, and points with units."""

    def __init__(self, server: Server, port: int, index: int) -> None:
        self.server = server
        self.port = port
        self.index = index
        self.names: list[str] = []
        self.nodes: dict[str, Any] = {}

    async def add(self, name: str, value: Any, type: ua.VariantType, datatype: ua.NodeId | None = None) -> Any:
        node = await self.server.nodes.objects.add_variable(
            ua.NodeId(name, self.index), ua.QualifiedName(name, self.index), value, type, datatype
        )
        self.names.append(name)
        self.nodes[name] = node
        return node

    async def property(self, name: str, property: str, value: Any, type: ua.VariantType) -> Any:
        return await self.nodes[name].add_property(0, property, value, type)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant() -> AsyncIterator[Plant]:
    server = Server()
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    made = Plant(server, port, await server.register_namespace(URI))
    await fill(made)
    async with server:
        yield made


async def fill(plant: Plant) -> None:
    server, index = plant.server, plant.index
    add_type: Any = server.get_node(ua.NodeId(29)).add_data_type  # type: ignore[arg-type]
    modern = await add_type(ua.NodeId("Modern", index), "Modern")
    fields = [ua.EnumField(Value=3, DisplayName=text("三"), Name="three"), ua.EnumField(Value=7, Name="seven")]  # type: ignore[arg-type]
    await modern.write_attribute(
        ua.AttributeIds.DataTypeDefinition, ua.DataValue(ua.Variant(ua.EnumDefinition(Fields=fields)))
    )
    derived = await modern.add_data_type(ua.NodeId("Derived", index), "Derived")
    await derived.add_property(0, "EnumStrings", [text("shut"), text(""), text("open")], T.LocalizedText)
    valued = await add_type(ua.NodeId("Valued", index), "Valued")
    values = [ua.EnumValueType(Value=-1, DisplayName=text("fault")), ua.EnumValueType(Value=9, DisplayName=text("run"))]  # type: ignore[arg-type]
    await valued.add_property(0, "EnumValues", values, T.ExtensionObject)
    await plant.add("plain", 1.5, T.Double)
    await plant.add("number", 1, T.Int32)
    await plant.add("modern", 3, T.Int32, modern.nodeid)
    await plant.add("derived", 0, T.Int32, derived.nodeid)
    await plant.add("valued", 9, T.Int32, valued.nodeid)
    await plant.add("standard", 0, T.Int32, ua.NodeId(852))  # type: ignore[arg-type]  # ServerState
    await plant.add("multi", 1, T.UInt32)
    await plant.property("multi", "EnumStrings", [text("low"), text("high")], T.LocalizedText)
    await plant.add("two", True, T.Boolean)
    await plant.property("two", "TrueState", text("on"), T.LocalizedText)
    await plant.property("two", "FalseState", text("off"), T.LocalizedText)
    await plant.add("own", 3, T.Int32, modern.nodeid)
    await plant.property("own", "EnumValues", values, T.ExtensionObject)
    await plant.add("level", 1.0, T.Double)
    await plant.property("level", "EngineeringUnits", ua.EUInformation(DisplayName=text("°C")), T.ExtensionObject)
    await plant.property("level", "EURange", ua.Range(0.0, 150.0), T.ExtensionObject)


EXPECTED = {
    "modern": {3: "三", 7: "seven"},
    "derived": {0: "shut", 2: "open"},
    "valued": {-1: "fault", 9: "run"},
    "multi": {0: "low", 1: "high"},
    "two": {1: "on", 0: "off"},
    "own": {-1: "fault", 9: "run"},
}


def flagged(point: int) -> list[Items]:
    """A reading that says that its meaning has changed."""
    one = np.zeros(1, np.int64)
    status = np.array([SEMANTICS_CHANGED | 0x400], np.uint32)
    return [Items(layouts.DOUBLE, False, one, np.array([point], np.uint32), one, status, one, one)]


class Asking:
    """Semantics at work over a session with the plant."""

    def __init__(self, plant: Plant, names: list[str], **keys: dict[str, Any]) -> None:
        self.names = names
        points = {
            n: OpcUaPointConfig(point=name, node=f"nsu={URI};s={name}", **keys.get(name, {}))
            for n, name in enumerate(names)
        }
        self.semantics = Semantics(points, settle_s=0.0)
        self.sink = FakeSink()
        self._plant = plant

    async def __aenter__(self) -> Asking:
        self.wire = await OpcUaWire("127.0.0.1", self._plant.port).__aenter__()
        config = device(self.wire.port, ["i=85"])
        self._opened = open_session(config.connection, config.load)
        self.session = await self._opened.__aenter__()
        self.before = len(self.wire.requests)
        self.task = asyncio.create_task(self.semantics.run(self.session, self.sink))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.wire.assert_read_only()
        await self._opened.__aexit__(None, None, None)
        await self.wire.__aexit__()

    @property
    def told(self) -> dict[str, dict[int, str]]:
        return {self.names[point]: texts for point, texts in self.sink.enumerations.items()}


async def test_every_kind_of_enumeration_has_its_texts(plant: Plant) -> None:
    names = [name for name in plant.names if name != "standard"]
    async with Asking(plant, names) as asking:
        await eventually(lambda: asking.told)
        assert asking.told == EXPECTED
        assert len(asking.wire.requests) - asking.before <= 12, "batches, not a request per node"


async def test_many_points_are_asked_for_together(plant: Plant) -> None:
    names = [*EXPECTED] * 100
    points = {n: OpcUaPointConfig(point=f"p{n}", node=f"nsu={URI};s={name}") for n, name in enumerate(names)}
    async with Asking(plant, names) as asking:
        asking.task.cancel()
        await asyncio.gather(asking.task, return_exceptions=True)
        before = len(asking.wire.requests)
        semantics, sink = Semantics(points, settle_s=0.0), FakeSink()
        asking.task = asyncio.create_task(semantics.run(asking.session, sink))
        await eventually(lambda: sink.enumerations)
        assert len(sink.enumerations) == 600
        assert len(asking.wire.requests) - before < 40


async def test_the_same_texts_are_told_once_and_others_again(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.opcua.model.semantics._GATHER_S", 0.0)
    strings = (await plant.nodes["multi"].get_properties())[0]
    async with Asking(plant, ["multi", "two"]) as asking:
        await eventually(lambda: asking.told)
        asking.sink.enumerations.clear()
        await strings.write_value([text("low"), text("high"), text("broken")], T.LocalizedText)
        asking.semantics.look(flagged(0))
        await eventually(lambda: asking.told)
        assert asking.told == {"multi": {0: "low", 1: "high", 2: "broken"}}
    await strings.write_value([text("low"), text("high")], T.LocalizedText)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"unit": "℃"}, None),
        ({}, None),
        ({"unit": "K"}, "point level: the unit is °C at the server and K in the device file; values are passed on as "
                        "they come: set unit: °C, or a scale and offset that make K of them"),
        ({"unit": "K", "offset": 273.15}, "look whether scale and offset still make K of them"),
    ],
    ids=["same", "none", "other", "scaled"],
)  # fmt: skip
async def test_another_unit_is_said_once(
    plant: Plant, keys: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("adapters.opcua.model.semantics._GATHER_S", 0.0)
    monkeypatch.setattr("adapters.opcua.model.semantics._AGAIN_S", 0.0)

    def lines(part: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if part in record.getMessage()]

    async with Asking(plant, ["plain", "level"], level=keys) as asking:
        for n in (1, 2):
            asking.semantics.look(flagged(1))
            await eventually(lambda n=n: len(lines("the meaning of 1 points has changed")) == n)
        assert "for example of level: its unit is °C, its range 0 to 150" in lines("the meaning of")[0]
        asking.semantics.look(flagged(5))  # a stranger's
        asking.semantics.look(flagged(0))
        await eventually(lambda: len(lines("for example of plain: its unit is not told")) == 1)
    found = lines("in the device file")
    assert len(found) == (told is not None)
    assert told is None or told in found[0]
