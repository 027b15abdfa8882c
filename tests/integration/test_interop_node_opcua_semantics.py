"""Texts of enumerations and changes of meaning, of a server that shares no code with ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adapters.opcua.model.changes import SEMANTICS_CHANGED
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

BROWSE = 527
TEXTS = {
    "Mode": {0: "Stopped", 1: "Running", 2: "Fault"},
    "Alarm": {0: "None", 10: "High", -10: "Low"},
    "Valve": {0: "shut", 1: "moving", 2: "open"},
    "Drive": {-1: "fault", 9: "run"},
    "Pump": {1: "on", 0: "off"},
}

# A server takes seconds to start, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("interop")
    limits = {"maxNodesPerRead": 30, "maxNodesPerBrowse": 7}
    async with interop_server(folder, counters=40, quiet_time=True, limits=limits) as made:
        yield made


@pytest.mark.parametrize("keys", [{}, {"poll": "200ms"}], ids=["subscribed", "polled"])
async def test_numbers_have_their_texts(server: InteropServer, keys: dict[str, str]) -> None:
    names = [*TEXTS, "Double", "String", *(f"c{n}" for n in range(40))]
    sink = KeepingSink()
    async with OpcUaWire("127.0.0.1", server.port) as wire:
        config = device(wire.port, map(server.node, names), **keys)
        async with running(adapter_of(config), sink) as task:
            await all_heard(sink, task, len(names))
            await eventually(lambda: task.done() or sink.enumerations, message="texts")
        wire.assert_read_only()
        assert wire.count(BROWSE) <= 20, "batches of seven, as the server bears"
    assert {names[point]: texts for point, texts in sink.enumerations.items()} == TEXTS
    assert [sink.values(point)[0] for point in range(5)] == [1, -10, 1, 9, True], "a value stays a number"


@pytest.mark.parametrize("keys", [{}, {"poll": "100ms"}], ids=["subscribed", "polled"])
async def test_a_changed_unit_is_said(
    server: InteropServer, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await server.tell("describe", node="Level", low=0, high=100, unit="degree_celsius")
    sink = KeepingSink()
    points = [{"point": "level", "node": server.node("Level"), "unit": "℃"}]
    config = device(server.port, [], points=points, **keys)

    def told(part: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if part in record.getMessage()]

    async with running(adapter_of(config), sink) as task:
        await all_heard(sink, task, 1)
        await server.tell("describe", node="Level", low=0, high=400, unit="kelvin")
        await server.tell("set", node="Level", value=300, status=SEMANTICS_CHANGED | 0x400)
        await eventually(lambda: task.done() or told("in the device file"), message="a line about the unit")
        assert not task.done()
    assert "point level: the unit is K at the server and ℃ in the device file" in told("in the device file")[0]
    assert "its unit is K, its range 0 to 400" in told("the meaning of 1 points has changed")[0]
    flagged = [reading for reading in sink.readings(0) if reading.value == 300]
    assert flagged[0].status & SEMANTICS_CHANGED, "the bit travels on"
