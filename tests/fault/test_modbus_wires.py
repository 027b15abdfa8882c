"""What happens to whole wires: a serial adapter unplugged and back, a second master, a serial server half open.

Devices, stations and the test are in one process, and their time is their own: while the machine does not let it run,
nobody is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.modbus import links
from gateway.contract import Clock
from gateway.contract.status import GOOD
from tests.support.modbus_device import ModbusDevice
from tests.support.modbus_line import ModbusLine, rtu_frame
from tests.support.modbus_plant import Supervised, p99, run_all
from tests.support.own_time import OwnClock
from tests.support.wait import eventually

PERIOD_S, TIMEOUT_S = 0.2, 0.3
STEADY_S = 5.5
"""a link that has lived for 5 s is tried again often when it is lost"""
BACK_S = 4.0 + TIMEOUT_S + PERIOD_S + 0.5
"""the longest back-off in the first minute, a question and a cycle; and the work of all of them in one process"""


@pytest.fixture(autouse=True)
def another_wire() -> None:
    links.LATE.clear()


def line(**keys: Any) -> ModbusLine:
    return ModbusLine({n: ModbusDevice(registers={a: 1000 * n + a for a in range(200)}) for n in (1, 2)}, **keys)


@pytest_asyncio.fixture
async def clock() -> Clock:
    """Of the devices and the test."""
    return OwnClock()


def device(clock: Clock, url: str, station: int, **connection: Any) -> Supervised:
    points = [{"point": f"p{a}", "address": f"holding {a}", "type": "uint16"} for a in (0, 100)]
    way = {"url": url, "station": station, "timeout": f"{TIMEOUT_S}s", **connection}
    file = {"device": f"d{station}", "adapter": "modbus", "every": f"{PERIOD_S}s", "points": points, "connection": way}
    return Supervised(file, clock)


@asynccontextmanager
async def running(*devices: Supervised) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_all(devices, stop), name="devices")
    try:
        yield
    finally:
        stop.set()
        await task


def fresh(devices: tuple[Supervised, ...], since_ns: int) -> Callable[[], bool]:
    return lambda: all(device.fresh(point, since_ns) for device in devices for point in device.readings)


def assert_own(*devices: Supervised) -> None:
    for one in devices:
        for point, readings in one.readings.items():
            expected = 1000 * int(one.name[1:]) + int(point[1:])
            assert all(reading.value == (expected if reading.status == GOOD else None) for reading in readings)


async def test_a_serial_adapter_is_unplugged_and_plugged_in_again(tmp_path: Path, clock: Clock) -> None:
    """Its name under /dev/serial/by-id stays, what it points at does not."""
    link = tmp_path / "usb-FTDI-if00"
    url = f"serial://{link}?baud=115200&parity=N"
    both = device(clock, url, 1), device(clock, url, 2)
    async with running(*both):
        async with line().on_pty() as path:
            link.symlink_to(path)
            await eventually(fresh(both, clock.time_ns()), 60, "both are read")
            await asyncio.sleep(STEADY_S)
        link.unlink()
        await eventually(lambda: {one.state.state for one in both} == {"down"}, 2, "down at once")
        assert all("is the adapter plugged in?" in (one.state.error or "") for one in both)
        async with line().on_pty() as path:
            link.symlink_to(path)
            await eventually(fresh(both, clock.time_ns()), BACK_S, "both are back")
            assert {one.state.state for one in both} == {"up"}
    assert_own(*both)
    assert [one.state.outages for one in both] == [1, 1]


async def test_a_line_on_which_a_second_master_talks_all_the_time(clock: Clock) -> None:
    """Its requests, and replies of a station of its own, in between and in the middle of ours."""
    wire = line()
    foreign = rtu_frame(bytes.fromhex("090300000002")) + rtu_frame(bytes.fromhex("09030412345678"))
    async with wire.on_pty() as path:
        both = (
            device(clock, f"serial://{path}?baud=115200&parity=N", 1),
            device(clock, f"serial://{path}?baud=115200&parity=N", 2),
        )
        stop = asyncio.Event()

        async def talk() -> None:
            while not stop.is_set():
                wire.say(foreign)
                await asyncio.sleep(0.004)

        async with running(*both):
            await eventually(fresh(both, clock.time_ns()), 60, "both are read")
            task = asyncio.create_task(talk())
            begun_ns = clock.time_ns()
            await eventually(lambda: len(both[0].readings["p0"]) > 30, 20, "30 readings in the noise")
            over_ns = clock.time_ns()
            stop.set()
            await task
    assert_own(*both)
    for one in both:
        assert one.statuses("p0", begun_ns, over_ns) == {GOOD}
        assert p99(one.gaps_s("p0", begun_ns, over_ns)) <= PERIOD_S + TIMEOUT_S
        assert one.adapter.counters.timeouts == 0


async def test_a_serial_server_that_forgot_the_connection(clock: Clock) -> None:
    """Half open: nobody tells us. Three timeouts in a row are believed, whoever was asked."""
    wire = line(one_connection=True)
    async with wire.on_tcp() as port:
        both = device(clock, f"rtu+tcp://127.0.0.1:{port}", 1), device(clock, f"rtu+tcp://127.0.0.1:{port}", 2)
        async with running(*both):
            await eventually(fresh(both, clock.time_ns()), 60, "both are read")
            await asyncio.sleep(STEADY_S)
            wire.forgotten = wire.connections
            await eventually(fresh(both, clock.time_ns()), 3 * TIMEOUT_S + BACK_S, "both are back")
    assert_own(*both)
    assert (wire.connections, wire.refused_connections) == (2, 0)


async def test_one_device_of_a_wire_is_restarted_again_and_again(clock: Clock) -> None:
    """Stopped and started as by a changed device file, in the middle of whatever it does; the other does not notice."""
    wire = line()
    async with wire.on_tcp() as port:
        url = f"rtu+tcp://127.0.0.1:{port}"
        steady = device(clock, url, 2)
        async with running(steady):
            await eventually(fresh((steady,), clock.time_ns()), 60, "it is read")
            begun_ns = clock.time_ns()
            restarted = []
            for _ in range(12):
                restarted.append(device(clock, url, 1))
                asked = len(wire.stations[1].asked)
                async with running(restarted[-1]):
                    await eventually(lambda n=asked: len(wire.stations[1].asked) > n)  # type: ignore[misc]
            over_ns = clock.time_ns()
            await eventually(fresh((steady,), over_ns), message="one cycle more")
    assert_own(steady, *restarted)
    assert steady.statuses("p0", begun_ns, over_ns) == {GOOD}
    assert p99(steady.gaps_s("p0", begun_ns, over_ns)) <= PERIOD_S + TIMEOUT_S
    assert steady.state.outages == 0
    assert wire.connections == 1, "the wire stays open as long as anybody uses it"
