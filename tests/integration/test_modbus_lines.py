"""Stations on a shared line: a real pseudo terminal and a TCP serial server, with every trouble a line has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from adapters.modbus import links
from gateway.contract import LinkLost
from gateway.contract.status import BAD_CONFIGURATION_ERROR, GOOD
from tests.support.modbus_device import Act, Asked, ModbusDevice, Script
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_sink import CollectingSink, again_and_again, build, cycles, running
from tests.support.wait import eventually

ALL = ("serial", "serial-ascii", "rtu+tcp", "ascii+tcp")


@pytest.fixture(autouse=True)
def another_wire() -> None:
    """Pseudo terminals come back under the same name, and a wire's late replies are remembered by name."""
    links.LATE.clear()


def station(number: int, script: Script = lambda asked: None) -> ModbusDevice:
    """Its holding registers hold 1000 x its number plus their address: a mixed-up value is seen at once."""
    return ModbusDevice(registers={n: 1000 * number + n for n in range(200)}, script=script)


@asynccontextmanager
async def served(line: ModbusLine, kind: str) -> AsyncIterator[str]:
    """Yields the url of the line."""
    line.framing = "ascii" if "ascii" in kind else "rtu"
    if kind.startswith("serial"):
        async with line.on_pty() as path:
            yield f"serial://{path}?baud=115200&parity=N&framing={line.framing}"
    else:
        async with line.on_tcp() as port:
            yield f"{kind}://127.0.0.1:{port}"


def device_file(url: str, number: int, addresses: Sequence[int], **keys: Any) -> dict[str, Any]:
    points = [{"point": f"p{n}", "address": f"holding {n}", "type": "uint16"} for n in addresses]
    connection = {"url": url, "station": number, "timeout": "200ms", **keys.pop("connection", {})}
    content = {"device": f"dev-{number}", "adapter": "modbus", "every": "50ms", "points": points}
    return {**content, "connection": connection, **keys}


def assert_own(sink: CollectingSink, number: int, addresses: Sequence[int]) -> None:
    for i, address in enumerate(addresses):
        for reading in sink.readings.get(100 + i, ()):
            assert reading.value == (1000 * number + address if reading.status == GOOD else None)


@pytest.mark.parametrize("kind", ALL)
async def test_three_stations_share_a_line(kind: str) -> None:
    line = ModbusLine({n: station(n) for n in (1, 2, 3)})
    sinks = {n: CollectingSink() for n in (1, 2, 3)}
    addresses = (0, 3, 60, 199)
    async with served(line, kind) as url, AsyncExitStack() as stack:
        for n, sink in sinks.items():
            task = await stack.enter_async_context(running(build(device_file(url, n, addresses)), sink))
            await cycles(sink, 103, 1, task)
        for sink in sinks.values():
            await cycles(sink, 103, 5, task)
    for n, sink in sinks.items():
        assert_own(sink, n, addresses)
        assert {reading.status for readings in sink.readings.values() for reading in readings} == {GOOD}
    assert line.most_at_once == 1, "one request at a time"
    assert not line.strange
    assert line.connections <= 1


@pytest.mark.parametrize("kind", ["serial", "rtu+tcp"])
async def test_late_replies_are_never_taken_for_the_next(kind: str) -> None:
    """All blocks are one register: nothing but its moment tells a late reply from the next one."""

    def late(asked: Asked) -> Act | None:
        return Act(delay_s=0.15) if asked.number in (3, 9, 10, 16, 22, 23, 24) else None

    line = ModbusLine({1: station(1, late)})
    addresses = (0, 50, 100, 150)
    sink = CollectingSink()
    keys = {"connection": {"timeout": "100ms"}}
    async with served(line, kind) as url, again_and_again(build(device_file(url, 1, addresses, **keys)), sink):
        await eventually(lambda: len(sink.readings.get(103, ())) >= 20, 60, message="20 readings of the last point")
    assert_own(sink, 1, addresses)
    assert line.most_at_once > 1, "a late reply was on its way while another was waited for"


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Act(corrupt=True), id="bad checksum"),
        pytest.param(Act(noise=b"\x00\xff\x55"), id="noise before the reply"),
        pytest.param(Act(trailing=b"\x00\xff\x55"), id="noise behind the reply"),
        pytest.param(Act(station=9), id="another station's number"),
        pytest.param(Act(cells_short=1), id="one register too few"),
        pytest.param(Act(cells_short=-1), id="one register too many"),
        pytest.param(Act(raw=b"\x01\x03"), id="cut short"),
        pytest.param(Act(drip_s=0.002), id="byte by byte"),
        pytest.param(Act(exception=6), id="busy"),
        pytest.param(Act(silent=True), id="no reply"),
    ],
)
async def test_one_bad_reply_costs_nothing(act: Act) -> None:
    line = ModbusLine({1: station(1, lambda asked: act if asked.number == 2 else None), 2: station(2)})
    addresses = (0, 1, 100, 101)
    sinks = {n: CollectingSink() for n in (1, 2)}
    async with served(line, "serial") as url, AsyncExitStack() as stack:
        for n, sink in sinks.items():
            task = await stack.enter_async_context(running(build(device_file(url, n, addresses)), sink))
        for sink in sinks.values():
            await cycles(sink, 103, 4, task)
    for n, sink in sinks.items():
        assert_own(sink, n, addresses)
        assert {reading.status for readings in sink.readings.values() for reading in readings} == {GOOD}


async def test_a_dead_station_costs_its_neighbour_one_timeout_at_most() -> None:
    dead = station(1, lambda asked: Act(silent=True))
    line = ModbusLine({1: dead, 2: station(2)})
    healthy = CollectingSink()
    async with served(line, "serial") as url, AsyncExitStack() as stack:
        task = await stack.enter_async_context(running(build(device_file(url, 2, (0,))), healthy))
        await cycles(healthy, 100, 3, task)
        for _ in range(2):
            with pytest.raises(LinkLost, match="no reply came within"):
                await build(device_file(url, 1, (0, 100))).run(CollectingSink())
        await cycles(healthy, 100, 5, task)
    times = [reading.time_ns for reading in healthy.readings[100]]
    widest_s = max(b - a for a, b in pairwise(times)) / 1e9
    assert widest_s < 0.05 + 0.2 + 0.1, f"period 50 ms and one timeout of 200 ms; {widest_s:.3f} s seen"
    assert {reading.status for reading in healthy.readings[100]} == {GOOD}


async def test_an_illegal_address_stays_alone_on_a_line() -> None:
    bad = station(1)
    bad.holes.add(2)
    line = ModbusLine({1: bad})
    addresses = (0, 1, 2, 3)
    sink = CollectingSink()
    async with served(line, "serial") as url, running(build(device_file(url, 1, addresses)), sink) as task:
        await cycles(sink, 103, 5, task)
    assert_own(sink, 1, addresses)
    assert {reading.status for reading in sink.readings[102]} == {BAD_CONFIGURATION_ERROR}
    assert {reading.status for n in (100, 101, 103) for reading in sink.readings[n]} == {GOOD}


async def test_a_port_that_is_missing_or_held_says_so() -> None:
    with pytest.raises(LinkLost, match=r"there is no /dev/ttyNONE; is the adapter plugged in\?"):
        await build(device_file("serial:///dev/ttyNONE", 1, (0,))).run(CollectingSink())
    line = ModbusLine({1: station(1), 2: station(2)})
    async with served(line, "serial") as url, running(build(device_file(url, 1, (0,))), CollectingSink()) as task:
        await eventually(lambda: line.asked, message="the first request")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import serial; serial.Serial({url[9:].split('?')[0]!r}, exclusive=True)",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, error = await process.communicate()
        assert b"exclusively lock" in error, "nobody else gets the port while we have it"
        assert not task.done()


async def test_an_unplugged_port_is_a_lost_link_and_works_again() -> None:
    sink = CollectingSink()
    first = ModbusLine({1: station(1)})
    async with served(first, "serial") as url:
        task = asyncio.create_task(build(device_file(url, 1, (0,))).run(sink))
        await cycles(sink, 100, 2, task)
    began = asyncio.get_running_loop().time()
    with pytest.raises(LinkLost):
        await asyncio.wait_for(task, 5)
    assert asyncio.get_running_loop().time() - began < 2


async def test_only_reads_are_on_the_wire() -> None:
    line = ModbusLine({1: station(1)})
    points = [
        {"point": "h", "address": "holding 0", "type": "uint16"},
        {"point": "i", "address": "input 0", "type": "uint16"},
        {"point": "c", "address": "coil 0"},
        {"point": "d", "address": "discrete 0"},
    ]
    for kind in ALL:
        sink = CollectingSink()
        async with served(line, kind) as url:
            content = {**device_file(url, 1, ()), "points": points}
            async with running(build(content), sink) as task:
                await cycles(sink, 103, 2, task)
    assert {asked.function for asked in line.asked} == {1, 2, 3, 4}
    assert not line.strange
