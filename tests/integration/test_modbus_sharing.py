"""What devices on one wire owe each other: whole cycles, no reply left behind by a restart, faults that stay alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from adapters.modbus import links
from adapters.modbus.poll import ModbusAdapter
from gateway.contract import LinkLost
from gateway.contract.status import GOOD
from tests.integration.test_modbus_adapter import holding
from tests.integration.test_modbus_lines import ALL, assert_own, device_file, served, station
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_sink import CollectingSink, again_and_again, build, cycles, running
from tests.support.modbus_sink import device_file as tcp_file
from tests.support.wait import eventually

SPREAD = (0, 30, 60, 90, 120)
"""five blocks"""


@pytest.fixture(autouse=True)
def another_wire() -> None:
    links.LATE.clear()


def statuses(sink: CollectingSink) -> set[int]:
    return {reading.status for readings in sink.readings.values() for reading in readings}


def widest_s(sink: CollectingSink, index: int) -> float:
    times = [reading.time_ns for reading in sink.readings[index]]
    return max(b - a for a, b in pairwise(times)) / 1e9


@asynccontextmanager
async def restarted(content: dict[str, Any], sink: CollectingSink) -> AsyncIterator[ModbusAdapter]:
    """A device's adapter, run again whenever its link is lost."""
    adapter = build(content)
    async with again_and_again(adapter, sink):
        yield adapter  # type: ignore[misc]  # what `build` makes


@pytest.mark.parametrize("kind", ["serial", "tcp"])
async def test_a_cycle_of_many_requests_waits_for_one_timeout_only(kind: str) -> None:
    """A dead station that is asked without a pause: between any two requests of its neighbour it would like a turn."""
    line = ModbusLine({1: station(1, lambda asked: Act(silent=True)), 2: station(2)})
    healthy = CollectingSink()
    async with contextlib.AsyncExitStack() as stack:
        if kind == "serial":
            url = await stack.enter_async_context(served(line, "serial"))
        else:
            gateway = ModbusDevice(script=lambda asked: Act(silent=True) if asked.station == 1 else None)
            url = f"tcp://127.0.0.1:{(await stack.enter_async_context(gateway.serve())).port}"
        await stack.enter_async_context(restarted(device_file(url, 1, (0, 100)), CollectingSink()))
        task = await stack.enter_async_context(running(build(device_file(url, 2, SPREAD, every="600ms")), healthy))
        await cycles(healthy, 104, 8, task)
    spans = [
        last.time_ns - first.time_ns for first, last in zip(healthy.readings[100], healthy.readings[104], strict=True)
    ]
    assert max(spans) < 0.2e9, "once the cycle has begun no timeout of 200 ms comes in between"
    assert widest_s(healthy, 104) < 0.6 + 0.2 + 0.1
    assert statuses(healthy) == {GOOD}


async def test_a_dead_station_is_asked_little() -> None:
    """Once it is known to be dead: two blocks, each asked once."""
    dead = station(1, lambda asked: Act(silent=True))
    line = ModbusLine({1: dead})
    async with served(line, "serial") as url:
        adapter = build(device_file(url, 1, SPREAD, connection={"timeout": "50ms", "retries": 3}))
        asked = []
        for _ in range(3):
            with pytest.raises(LinkLost):
                await adapter.run(CollectingSink())
            asked.append(len(dead.asked) - sum(asked))
        assert asked == [8, 2, 2]
        dead.script = lambda asked: Act(silent=True) if asked.number == 14 else None
        sink = CollectingSink()
        async with running(adapter, sink) as task:
            await cycles(sink, 104, 3, task)
    assert statuses(sink) == {GOOD}, "it is asked again as usual as soon as it has answered"


@pytest.mark.parametrize("kind", ["serial", "rtu+tcp"])
async def test_a_restarted_device_leaves_no_reply_for_itself_and_none_for_its_neighbour(kind: str) -> None:
    """It is stopped in the middle of a request; its reply comes when the next device, or itself again, has asked."""
    line = ModbusLine({1: station(1, lambda asked: Act(delay_s=0.05)), 2: station(2)})
    sinks = {address: CollectingSink() for address in range(1, 9)}
    neighbour = CollectingSink()
    async with (
        served(line, kind) as url,
        running(build(device_file(url, 2, (0, 50), connection={"retries": 0})), neighbour) as task,
    ):
        for address, sink in sinks.items():
            begun = len(line.stations[1].asked)
            content = device_file(url, 1, (address,))
            async with running(build(content), sink):
                # stopped as soon as the next request is on the wire
                await eventually(lambda n=begun, sink=sink: len(line.stations[1].asked) > n + bool(sink.readings))  # type: ignore[misc]
        await cycles(neighbour, 101, 3, task)
    for address, sink in sinks.items():
        assert_own(sink, 1, (address,))
    assert_own(neighbour, 2, (0, 50))
    assert statuses(neighbour) == {GOOD}
    assert line.most_at_once == 1, "nobody speaks while a station may still answer"


@pytest.mark.parametrize("kind", ALL)
async def test_an_adapter_that_hears_what_it_says(kind: str) -> None:
    """Addresses whose high byte looks like the byte count of a reply."""
    addresses = (0, 768, 1023, 3000, 65000)
    device = ModbusDevice(registers={n: 1000 + n & 0xFFFF for n in addresses})
    line = ModbusLine({1: device}, echo=True)
    sink = CollectingSink()
    async with (
        served(line, kind) as url,
        running(build(device_file(url, 1, addresses, connection={"retries": 0})), sink) as task,
    ):
        await cycles(sink, 104, 3, task)
    assert {sink.last(100 + i).value for i in range(5)} == {1000 + n & 0xFFFF for n in addresses}
    assert statuses(sink) == {GOOD}


async def test_a_serial_server_with_one_connection_that_forgot_it() -> None:
    """Half open: the old connection is closed before the new one is made."""
    line = ModbusLine({1: station(1), 2: station(2)}, one_connection=True)
    sinks = {1: CollectingSink(), 2: CollectingSink()}
    async with served(line, "rtu+tcp") as url, contextlib.AsyncExitStack() as stack:
        for n, sink in sinks.items():
            await stack.enter_async_context(restarted(device_file(url, n, (0,)), sink))
        await eventually(lambda: all(len(sink.readings.get(100, ())) > 2 for sink in sinks.values()))
        line.forgotten = line.connections
        before = {n: len(sink.readings[100]) for n, sink in sinks.items()}
        await eventually(lambda: all(len(sink.readings[100]) > before[n] + 3 for n, sink in sinks.items()))
    assert line.connections == 2
    assert line.refused_connections == 0
    for n, sink in sinks.items():
        assert_own(sink, n, (0,))


@pytest.mark.parametrize("kind", ["tcp", "rtu+tcp"])
async def test_a_connection_closed_after_each_reply_needs_no_retries(kind: str) -> None:
    closing = station(1, lambda asked: Act(close_after=True))
    sink = CollectingSink()
    async with contextlib.AsyncExitStack() as stack:
        if kind == "tcp":
            url = f"tcp://127.0.0.1:{(await stack.enter_async_context(closing.serve())).port}"
        else:
            url = await stack.enter_async_context(served(ModbusLine({1: closing}), kind))
        content = device_file(url, 1, SPREAD, connection={"retries": 0})
        task = await stack.enter_async_context(running(build(content), sink))
        await cycles(sink, 104, 5, task)
    assert_own(sink, 1, SPREAD)
    assert statuses(sink) == {GOOD}


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Act(station=9), id="wrong station"),
        pytest.param(Act(transaction_offset=300), id="wrong transaction id"),
        pytest.param(Act(cells_short=1), id="too short"),
        pytest.param(Act(cells_short=-1), id="too long"),
    ],
)
@pytest.mark.parametrize("outstanding", [1, 4])
async def test_a_station_that_answers_wrongly_is_alone_with_it(act: Act, outstanding: int) -> None:
    """Both are behind one connection, and have requests on their way at the same time."""

    def script(asked: Asked) -> Act | None:
        return act if asked.station == 1 else None

    load = {"outstanding": outstanding}
    well = CollectingSink()
    points = holding(0, 200, 400, 600)
    async with ModbusDevice(script=script, one_connection=True).serve() as device, contextlib.AsyncExitStack() as stack:
        healthy = build(
            {
                **tcp_file(device.port, points, load=load),
                "connection": {"url": f"tcp://127.0.0.1:{device.port}", "station": 2, "retries": 0},
            }
        )
        sick = await stack.enter_async_context(
            restarted(tcp_file(device.port, holding(1, 300, 500), load=load, every="20ms"), CollectingSink())
        )
        task = await stack.enter_async_context(running(healthy, well))
        for index in range(100, 104):
            await cycles(well, index, 30, task)
    assert statuses(well) == {GOOD}
    assert healthy.counters.bad_replies == 0  # type: ignore[attr-defined]
    assert sick.counters.bad_replies + sick.counters.timeouts > 3
    assert device.refused_connections == 0
