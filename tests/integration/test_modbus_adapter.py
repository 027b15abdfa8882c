"""The Modbus adapter against a real pymodbus server, and a scripted device with every fault seen in the field."""

from __future__ import annotations

import asyncio
import math
import random
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.contract import Basis, LinkLost, ValueType
from gateway.contract.status import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_TIMEOUT,
    GOOD,
)
from tests.support.modbus_device import Act, Asked, ModbusDevice, Script
from tests.support.modbus_sink import CollectingSink, build, cycles, device_file, running
from tests.support.modbus_wire import modbus_wire
from tests.support.wait import eventually


def holding(*addresses: int, type: str = "uint16", **keys: Any) -> list[dict[str, Any]]:
    return [{"point": f"p{n}", "address": f"holding {n}", "type": type, **keys} for n in addresses]


def only(number: int, act: Act) -> Script:
    """Do `act` for the request with this number, answer all others."""
    return lambda asked: act if asked.number == number else None


def at(address: int, act: Act) -> Script:
    return lambda asked: act if asked.address == address else None


async def read_some(device: ModbusDevice, sink: CollectingSink, points: list[dict[str, Any]], **keys: Any) -> None:
    """Run until the last point has three readings."""
    async with running(build(device_file(device.port, points, **keys)), sink) as task:
        await cycles(sink, 100 + len(points) - 1, 3, task)


def assert_own_addresses(sink: CollectingSink, points: list[dict[str, Any]]) -> None:
    """Every good reading of a holding register holds the register's own address: nothing was mixed up."""
    for i, point in enumerate(points):
        expected = int(point["address"].split()[1])
        for reading in sink.readings.get(100 + i, ()):
            assert reading.value == (expected if reading.status == GOOD else None)


async def test_pymodbus_server() -> None:
    """All four tables of a server that is not ours."""
    floats = struct.unpack(">HH", struct.pack(">f", 20.1))
    blocks = (
        [SimData(0, values=[i % 3 == 0 for i in range(40)], datatype=DataType.BITS)],
        [SimData(0, values=[i % 2 == 0 for i in range(40)], datatype=DataType.BITS)],
        [SimData(0, values=[*floats, 0xFFFE, 4711, *range(200)], datatype=DataType.REGISTERS)],
        [SimData(0, values=[7, 8, 9], datatype=DataType.REGISTERS)],
    )
    server = ModbusTcpServer(SimDevice(1, simdata=blocks), address=("127.0.0.1", 0))
    await server.listen()
    try:
        port = server.transport.sockets[0].getsockname()[1]
        points = [
            {"point": "float", "address": "holding 0", "type": "float32"},
            {"point": "negative", "address": "modicon 40003", "type": "int16"},
            {"point": "far", "address": "holding 203", "type": "uint16"},
            {"point": "input", "address": "input 2", "type": "uint16"},
            {"point": "coil", "address": "coil 9"},
            {"point": "coil_off", "address": "coil 10"},
            {"point": "discrete", "address": "discrete 4"},
            {"point": "discrete_off", "address": "discrete 5"},
        ]
        sink = CollectingSink()
        async with running(build(device_file(port, points)), sink) as task:
            await cycles(sink, 107, 2, task)
        values = [sink.last(100 + i).value for i in range(8)]
        assert values[1:] == [-2, 199, 9, True, False, True, False]
        assert math.isclose(values[0], 20.1, rel_tol=1e-7)
        assert sink.onlines
    finally:
        await server.shutdown()


async def test_one_offer_a_cycle_with_gateway_time() -> None:
    points = [*holding(0, 3, 500), {"point": "c", "address": "coil 1"}]
    sink = CollectingSink()
    before = time.time_ns()
    async with ModbusDevice(coils={1}).serve() as device:
        await read_some(device, sink, points)
    for offer, _ in sink.offers:
        assert [batch.type for batch in offer] == [ValueType.BOOL, ValueType.UINT64]
        for batch in offer:
            assert set(batch.basis) == {Basis.GATEWAY}
            assert all(before <= t <= batch.received_time <= time.time_ns() for t in batch.source_time)
    assert_own_addresses(sink, points[:3])
    assert device.most_open == 1


async def test_read_only_on_the_wire() -> None:
    points = [
        *holding(0, 40),
        {"point": "i", "address": "input 3", "type": "int32"},
        {"point": "c", "address": "coil 3"},
        {"point": "d", "address": "discrete 3"},
    ]
    device = ModbusDevice(holes={40}, script=only(6, Act(silent=True)))
    sink = CollectingSink()
    async with device.serve(), modbus_wire("127.0.0.1", device.port) as wire:
        async with running(build(device_file(wire.port, points)), sink) as task:
            await cycles(sink, 104, 5, task)
        wire.assert_read_only()
    assert set(wire.functions) == {1, 2, 3, 4}
    assert device.functions <= {1, 2, 3, 4}


async def test_ten_thousand_registers_are_eighty_requests() -> None:
    points = holding(*range(10_000))
    sink = CollectingSink()
    async with ModbusDevice().serve() as device:
        async with running(build(device_file(device.port, points, every="10s")), sink) as task:
            await cycles(sink, 10_099, 1, task)
        assert len(device.asked) == 80
    assert len(sink.offers) == 4
    assert_own_addresses(sink, points)


@pytest.mark.parametrize("type", ["uint16", "float32"])
async def test_two_hundred_scattered_points_are_ten_requests_at_most(type: str) -> None:
    """Gaps of 1 to 4 registers between them."""
    draw, size, address = random.Random(4), 1 if type == "uint16" else 2, 0
    addresses = []
    for _ in range(200):
        addresses.append(address)
        address += size + draw.randint(1, 4)
    sink = CollectingSink()
    async with ModbusDevice().serve() as device:
        content = device_file(device.port, holding(*addresses, type=type), every="300ms")
        async with running(build(content), sink) as task:
            await cycles(sink, 299, 3, task)
        by_cycle = [asked.address for asked in device.asked].count(0)
        assert len(device.asked) <= 10 * by_cycle
        assert by_cycle >= 3
    if type == "uint16":
        assert_own_addresses(sink, holding(*addresses))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Act(transaction_offset=1), id="wrong transaction id"),
        pytest.param(Act(transaction_offset=-1), id="previous transaction id"),
        pytest.param(Act(station=255), id="wrong station"),
        pytest.param(Act(function=4), id="wrong function code"),
        pytest.param(Act(announce_extra=2), id="byte count larger than the data"),
        pytest.param(Act(announce_extra=-2), id="byte count smaller than the data"),
        pytest.param(Act(cells_short=1), id="one register too few"),
        pytest.param(Act(cells_short=-1), id="one register too many"),
        pytest.param(Act(raw=b"\x15\x03HTTP/1.1 400 Bad Request\r\n"), id="garbage"),
        pytest.param(Act(raw=b"\x00\x01\x00\x00\x00\x01\x01"), id="length field too small"),
        pytest.param(Act(close_after=True, silent=True), id="closed instead of a reply"),
        pytest.param(Act(silent=True), id="no reply"),
    ],
)
async def test_one_bad_reply_is_asked_again_on_a_fresh_connection(act: Act) -> None:
    points = holding(0, 200, 400)
    sink = CollectingSink()
    async with ModbusDevice(script=only(1, act)).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert all(reading.status == GOOD for readings in sink.readings.values() for reading in readings)
    assert device.asked[1][3:] == device.asked[2][3:], "the same block is asked again"
    assert device.connections == 2
    assert device.most_open == 1


async def test_a_second_reply_behind_the_first_is_never_believed() -> None:
    """Its transaction id is that of a request to come; the connection it came on is not used any more."""
    points = holding(0, 200, 400)
    stray = Act(trailing=b"\x00\x03\x00\x00\x00\x05\x01\x03\x02\x12\x34")
    sink = CollectingSink()
    async with ModbusDevice(script=only(1, stray)).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert all(reading.status == GOOD for readings in sink.readings.values() for reading in readings)
    assert device.connections == 2
    assert device.most_open == 1


async def test_late_reply_is_never_taken_for_the_next() -> None:
    """The reply to a request that timed out comes while the next one waits; all ask for equally many registers."""
    points = holding(0, 200, 400, 600)
    sink = CollectingSink()

    def script(asked: Asked) -> Act | None:
        return Act(delay_s=0.35) if asked.number % 5 == 2 else None

    async with ModbusDevice(script=script).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert device.connections > 1


async def test_always_short_block_is_quarantined_and_the_others_live() -> None:
    """A stack that answers a read past its end with fewer registers."""
    points = holding(0, 5, 200, 201, 202)

    def script(asked: Asked) -> Act | None:
        beyond = asked.address + asked.count - 202
        return Act(cells_short=beyond) if asked.address >= 200 and beyond > 0 else None

    sink = CollectingSink()
    async with (
        ModbusDevice(script=script).serve() as device,
        running(build(device_file(device.port, points)), sink) as t,
    ):
        await cycles(sink, 103, 4, t)
    assert_own_addresses(sink, points)
    assert sink.readings[104][0].status == BAD_COMMUNICATION_ERROR
    assert {reading.status for i in range(4) for reading in sink.readings[100 + i]} == {GOOD}


async def test_always_wrong_station_ends_in_link_lost() -> None:
    def script(asked: Asked) -> Act:
        return Act(station=255)

    points = holding(0, 200, 400, 600)
    sink = CollectingSink()
    async with ModbusDevice(script=script).serve() as device:
        with pytest.raises(LinkLost, match=r"station 255 answered instead of 1; check connection.station"):
            await build(device_file(device.port, points)).run(sink)
    assert {reading.status for readings in sink.readings.values() for reading in readings} == {BAD_COMMUNICATION_ERROR}
    assert not sink.onlines


async def test_silent_device_is_link_lost_after_one_retry() -> None:
    sink = CollectingSink()
    async with ModbusDevice(script=lambda asked: Act(silent=True)).serve() as device:
        with pytest.raises(LinkLost, match=r"dev: 127.0.0.1:\d+ station 1: no reply came within 0.3 s; check"):
            await build(device_file(device.port, holding(0))).run(sink)
    assert len(device.asked) == 2
    assert device.connections == 2
    assert not sink.onlines


async def test_refused_connection_is_link_lost() -> None:
    async with ModbusDevice().serve() as device:
        port = device.port
    with pytest.raises(LinkLost, match=rf"127.0.0.1:{port} station 1: .*refused.*connection.url"):
        await build(device_file(port, holding(0))).run(CollectingSink())


async def test_readings_before_the_loss_are_offered() -> None:
    points = holding(0, 200, 400)
    sink = CollectingSink()

    def script(asked: Asked) -> Act | None:
        return Act(silent=True) if asked.address >= 200 else None

    async with ModbusDevice(script=script).serve() as device, asyncio.timeout(10):
        with pytest.raises(LinkLost):
            await build(device_file(device.port, points)).run(sink)
    assert sink.last(100).value == 0
    assert 102 not in sink.readings


async def test_an_address_without_an_answer_does_not_cost_the_others() -> None:
    """Some devices do not answer at all for an address that they do not have."""
    points = holding(0, 200, 400)
    sink = CollectingSink()
    async with ModbusDevice(script=at(200, Act(silent=True))).serve() as device:
        async with running(build(device_file(device.port, points)), sink) as task:
            await cycles(sink, 102, 6, task)
        asked = [request.address for request in device.asked if request.address == 200]
    assert [(reading.status, reading.value) for reading in sink.readings[101]] == [(BAD_TIMEOUT, None)]
    assert len(asked) == 2, "asked, asked once more, then left alone"
    assert {reading.status for index in (100, 102) for reading in sink.readings[index]} == {GOOD}
    assert_own_addresses(sink, points)


async def test_runs_again_after_a_loss() -> None:
    device = ModbusDevice()
    adapter_sink = CollectingSink()
    async with device.serve():
        adapter = build(device_file(device.port, holding(0)))
        async with running(adapter, adapter_sink) as task:
            await cycles(adapter_sink, 100, 1, task)
            device.script = lambda asked: Act(silent=True)
            with pytest.raises(LinkLost):
                await task
        assert adapter_sink.onlines == 1, "once a connection, not with each cycle"
        device.script = lambda asked: None
        seen = len(adapter_sink.readings[100])
        async with running(adapter, adapter_sink) as task:
            await cycles(adapter_sink, 100, seen + 2, task)
        assert adapter_sink.onlines == 2


async def test_close_after_each_reply() -> None:
    points = holding(0, 200, 400)
    sink = CollectingSink()
    async with ModbusDevice(script=lambda asked: Act(close_after=True)).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert all(reading.status == GOOD for readings in sink.readings.values() for reading in readings)


async def test_device_with_one_connection_only() -> None:
    """Configured for four connections, it is served over the one it allows; a dropped one is closed before the next."""
    points = holding(0, 200, 400, 600)
    sink = CollectingSink()
    device = ModbusDevice(one_connection=True, script=only(5, Act(silent=True)))
    async with device.serve():
        await read_some(device, sink, points, load={"connections": 1})
    assert_own_addresses(sink, points)
    assert device.refused_connections == 0


@pytest.mark.parametrize("connections", [1, 3])
async def test_never_more_connections_than_the_budget(connections: int) -> None:
    points = holding(*range(0, 6000, 200))
    sink = CollectingSink()

    def script(asked: Asked) -> Act:
        return Act(delay_s=0.002, silent=asked.number == 40)

    async with ModbusDevice(script=script).serve() as device:
        await read_some(device, sink, points, load={"connections": connections})
    assert_own_addresses(sink, points)
    assert device.most_open == connections


async def test_slow_bytes() -> None:
    points = holding(0, 1)
    sink = CollectingSink()
    async with ModbusDevice(script=lambda asked: Act(drip_s=0.002)).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert device.connections == 1


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (1, BAD_CONFIGURATION_ERROR),
        (4, BAD_DEVICE_FAILURE),
        (5, BAD_TIMEOUT),
        (6, BAD_TIMEOUT),
        (0x0A, BAD_NO_COMMUNICATION),
        (0x0B, BAD_NO_COMMUNICATION),
        (0x77, BAD_COMMUNICATION_ERROR),
    ],
)
async def test_exception_makes_the_points_of_its_block_bad(exception: int, status: int) -> None:
    points = holding(0, 1, 200)
    sink = CollectingSink()
    async with ModbusDevice(script=at(0, Act(exception=exception))).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert {reading.status for reading in sink.readings[100]} == {status}
    assert {reading.status for reading in sink.readings[101]} == {status}
    assert {reading.status for reading in sink.readings[102]} == {GOOD}
    assert device.connections == 1, "an exception is an answer: the connection stays"


async def test_a_device_that_its_gateway_does_not_reach_is_down_and_its_neighbour_is_not() -> None:
    """Both hang on one connection; station 7 gets the answer of the gateway in between, not of the device."""
    sick, well = CollectingSink(), CollectingSink()

    def script(asked: Asked) -> Act | None:
        return Act(exception=0x0B) if asked.station == 7 else None

    async with (
        ModbusDevice(script=script, one_connection=True).serve() as device,
        running(build(device_file(device.port, holding(0))), well) as task,
    ):
        await cycles(well, 100, 2, task)
        lost = build(device_file(device.port, holding(0, 200), connection={"station": 7}))
        with pytest.raises(
            LinkLost, match=r"a gateway in between says that the device does not answer \(exception 11\)"
        ):
            await lost.run(sick)
        await cycles(well, 100, 6, task)
        assert device.connections == 1
    assert not sick.onlines
    assert {reading.status for readings in sick.readings.values() for reading in readings} == {BAD_NO_COMMUNICATION}
    assert {reading.status for reading in well.readings[100]} == {GOOD}


async def test_illegal_address_is_isolated_once_and_the_rest_stays_whole() -> None:
    points = holding(*range(100))
    sink = CollectingSink()
    async with ModbusDevice(holes={37}).serve() as device:
        await read_some(device, sink, points)
        asked = len(device.asked)
        async with running(build(device_file(device.port, points)), sink):
            await eventually(lambda: len(device.asked) > asked + 5)
    assert_own_addresses(sink, points)
    assert {reading.status for reading in sink.readings[137]} == {BAD_CONFIGURATION_ERROR}
    assert len(sink.readings[137]) <= 2, "left alone for a minute"
    steady = [(a.address, a.count) for a in device.asked[asked - 2 : asked]]
    assert sorted(steady) == [(0, 37), (38, 62)], "in turn; a cycle may have begun when it was stopped"


async def test_a_device_that_refuses_everything_is_told_in_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    points = holding(*range(0, 3000, 100))
    sink = CollectingSink()
    async with (
        ModbusDevice(script=lambda asked: Act(exception=2)).serve() as device,
        running(build(device_file(device.port, points)), sink) as task,
    ):
        await cycles(sink, 129, 1, task)
    lines = [record.message for record in caplog.records if "refuses" in record.message]
    assert 1 <= len(lines) <= 2, lines
    assert "more blocks" in lines[0]
    assert "points are Bad" in lines[0]


async def test_device_with_a_smaller_limit_than_configured() -> None:
    points = holding(*range(100))
    sink = CollectingSink()
    async with ModbusDevice(max_cells=60).serve() as device:
        await read_some(device, sink, points)
    assert_own_addresses(sink, points)
    assert {reading.status for readings in sink.readings.values() for reading in readings} == {GOOD}


async def test_requests_per_second_are_kept() -> None:
    points = holding(*range(0, 2000, 200))
    sink = CollectingSink()
    async with ModbusDevice().serve() as device:
        adapter = build(device_file(device.port, points, load={"requests_per_s": 50}))
        begun = time.monotonic()
        async with running(adapter, sink) as task:
            await cycles(sink, 109, 2, task)
        assert (len(device.asked) - 1) / 50 <= time.monotonic() - begun


async def test_periods_and_missed_cycles() -> None:
    """A point of 40 ms beside one of 400 ms; the device needs 70 ms: cycles are missed and counted, never bunched."""
    points = [*holding(0, every="40ms"), *holding(200, every="400ms")]
    sink = CollectingSink()
    async with ModbusDevice(script=lambda asked: Act(delay_s=0.07)).serve() as device:
        adapter = build(device_file(device.port, points))
        async with running(adapter, sink) as task:
            await cycles(sink, 101, 3, task)
    fast, slow = len(sink.readings[100]), len(sink.readings[101])
    assert fast > 2 * slow
    assert adapter.counters.missed_cycles >= fast // 2  # type: ignore[attr-defined]
    times = [reading.time_ns for reading in sink.readings[100]]
    assert min(b - a for a, b in pairwise(times)) > 60_000_000


def _steady(device: ModbusDevice, sink: CollectingSink) -> bool:
    return len(sink.offers) > 2


def _waiting_for_reply(device: ModbusDevice, sink: CollectingSink) -> bool:
    return len(device.asked) == 3


@pytest.mark.parametrize(
    ("script", "moment"),
    [
        pytest.param(lambda asked: None, _steady, id="while polling"),
        pytest.param(only(2, Act(silent=True)), _waiting_for_reply, id="while waiting for a reply"),
    ],
)
async def test_cancellation_closes_everything(
    script: Script, moment: Callable[[ModbusDevice, CollectingSink], bool]
) -> None:
    points = holding(*range(0, 2000, 200))
    sink = CollectingSink()
    async with ModbusDevice(script=script).serve() as device:
        content = device_file(device.port, points, connection={"timeout": "30s"})
        task = asyncio.create_task(build(content).run(sink), name="adapter under test")
        await eventually(lambda: moment(device, sink))
        began = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: device.open_now == 0)
        assert asyncio.get_running_loop().time() - began < 2
