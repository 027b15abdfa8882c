"""What may be taken for an answer on a line, where nothing in a reply says which request it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from adapters.modbus import ADAPTER, links
from gateway.contract.registers import ScanQuery, Wire
from gateway.contract.status import GOOD
from tests.integration.test_modbus_lines import ALL, assert_own, device_file, served, station
from tests.integration.test_modbus_sharing import restarted, statuses
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.modbus_line import ModbusLine, rtu_frame
from tests.support.modbus_sink import CollectingSink, build, cycles, running
from tests.support.wait import eventually

SPREAD = (0, 50, 100, 150)
ONE_LATE = 5
"""the request whose reply comes after its timeout of 200 ms"""


@pytest.fixture(autouse=True)
def another_wire() -> None:
    links.LATE.clear()


def enough(sink: CollectingSink, points: int, readings: int) -> bool:
    return all(len(sink.readings.get(100 + i, ())) >= readings for i in range(points))


def touched(asked: Sequence[Asked], function: int) -> set[int]:
    return {a.address + i for a in asked if a.function == function for i in range(a.count)}


@pytest.mark.parametrize("kind", ["serial", "rtu+tcp"])
async def test_a_late_exception_is_not_the_answer_to_the_question_that_should_tell(kind: str) -> None:
    """An exception has no size. Were it believed, each answer from then on would be taken for the next one's."""

    def script(asked: Asked) -> Act:
        return Act(delay_s=0.3, exception=4) if asked.number == ONE_LATE else Act(delay_s=0.05)

    line = ModbusLine({1: station(1, script)})
    sink = CollectingSink()
    file = device_file("", 1, SPREAD, connection={"retries": 0})
    async with served(line, kind) as url:
        file["connection"]["url"] = url
        async with restarted(file, sink):
            await eventually(lambda: enough(sink, 4, 3))
    assert_own(sink, 1, SPREAD)


async def test_another_answer_of_the_station_before_its_own_is_passed_over() -> None:
    """A second master asks the same station for something else."""
    line = ModbusLine({1: station(1, lambda asked: Act(delay_s=0.05))})
    foreign = rtu_frame(bytes.fromhex("01030412345678"))
    sink = CollectingSink()
    async with served(line, "serial") as url:
        file = device_file(url, 1, SPREAD, connection={"retries": 0})

        async def talk() -> None:
            while True:
                line.say(foreign)
                await asyncio.sleep(0.03)

        async with running(build(file), sink) as task, asyncio.TaskGroup() as group:
            talking = group.create_task(talk(), name="second master")
            for i in range(4):
                await cycles(sink, 100 + i, 5, task)
            talking.cancel()
    assert_own(sink, 1, SPREAD)
    assert statuses(sink) == {GOOD}


@pytest.mark.parametrize(
    ("keys", "addresses", "forbidden"),
    [
        pytest.param({"unreadable": ["holding 51-59"]}, (50, 100), {*range(51, 60)}, id="what clears when read"),
        pytest.param({"load": {"max_gap": 0}}, (50, 51, 100, 101), {49, 52, 99, 102}, id="no gaps allowed"),
    ],
)
async def test_what_tells_late_replies_apart_reads_nothing_that_must_not_be_read(
    keys: dict[str, Any], addresses: tuple[int, ...], forbidden: set[int]
) -> None:
    device = station(1, lambda asked: Act(delay_s=0.3) if asked.number in (3, 8, 9, 14) else None)
    line = ModbusLine({1: device})
    sink = CollectingSink()
    holes = [f"{table} 0-65535" for table in ("input", "coil", "discrete")]
    keys = {**keys, "unreadable": [*keys.get("unreadable", ()), *holes]}
    async with served(line, "rtu+tcp") as url, restarted(device_file(url, 1, addresses, **keys), sink):
        await eventually(lambda: len(device.asked) > 18, 40)
    assert {asked.function for asked in device.asked} == {3}
    assert forbidden.isdisjoint(touched(device.asked, 3))
    assert_own(sink, 1, addresses)


async def test_a_scan_asks_for_nothing_outside_of_what_was_given() -> None:
    """Replies that are late do not change that."""
    device = station(1, lambda asked: Act(delay_s=0.25) if asked.number in (1, 3) else None)
    async with served(ModbusLine({1: device}), "rtu+tcp") as url:
        query = ScanQuery((1,), ("holding 0-1", "holding 10-11", "holding 20-21"), (), only_master=True)
        await ADAPTER.register_tools().scan(Wire(url, timeout_s=0.2, requests_per_s=200), query)
    assert {asked.function for asked in device.asked} == {3}
    assert touched(device.asked, 3) <= {0, 1, 10, 11, 20, 21}


async def test_questions_that_tell_late_replies_apart_are_counted_and_within_the_budget() -> None:
    """What is counted has waited for its place in the budget."""
    device = station(1, lambda asked: Act(delay_s=0.25) if asked.number % 3 == 1 else None)
    async with served(ModbusLine({1: device}), "rtu+tcp") as url:
        file = device_file(url, 1, SPREAD, load={"requests_per_s": 50})
        async with restarted(file, CollectingSink()) as adapter:
            await eventually(lambda: len(device.asked) >= 12)
    assert len(device.asked) <= adapter.counters.requests


async def test_two_files_for_one_station_do_not_take_each_others_late_replies() -> None:
    """The check warns of it, and it works."""

    def script(asked: Asked) -> Act | None:
        return Act(delay_s=0.25) if asked.number % 7 == 3 else Act(delay_s=0.02)

    line = ModbusLine({1: station(1, script)})
    halves, sinks = (SPREAD[:2], SPREAD[2:]), (CollectingSink(), CollectingSink())
    async with served(line, "rtu+tcp") as url, AsyncExitStack() as stack:
        for addresses, sink in zip(halves, sinks, strict=True):
            await stack.enter_async_context(restarted(device_file(url, 1, addresses), sink))
        await eventually(lambda: all(enough(sink, 2, 8) for sink in sinks))
    for addresses, sink in zip(halves, sinks, strict=True):
        assert_own(sink, 1, addresses)


@pytest.mark.parametrize("kind", ALL)
async def test_an_echo_that_looks_like_the_reply_is_not_it(kind: str) -> None:
    """Coils from 768 on, 17 to 24 of them: the request has the length, the byte count and the checksum of a reply."""
    device = ModbusDevice(coils={768, 791})
    line = ModbusLine({1: device}, echo=True)
    sink = CollectingSink()
    async with served(line, kind) as url:
        file = device_file(url, 1, ())
        file["points"] = [{"point": f"c{n}", "address": f"coil {n}"} for n in range(768, 792)]
        async with running(build(file), sink) as task:
            await cycles(sink, 123, 4, task)
    for i in range(24):
        assert {(r.value, r.status) for r in sink.readings[100 + i]} == {(i in (0, 23), GOOD)}


async def test_a_reply_that_looks_like_its_request_is_believed_where_nobody_echoes() -> None:
    """The same coils, and what they hold is what the request's bytes would be."""
    request = bytes.fromhex("010103000018")
    held = int.from_bytes(request[3:], "little")
    device = ModbusDevice(coils={768 + n for n in range(24) if held >> n & 1})
    line = ModbusLine({1: device})
    sink = CollectingSink()
    async with served(line, "rtu+tcp") as url:
        file = device_file(url, 1, ())
        file["points"] = [{"point": "first", "address": "coil 0"}] + [
            {"point": f"c{n}", "address": f"coil {n}"} for n in range(768, 792)
        ]
        async with running(build(file), sink) as task:
            await cycles(sink, 124, 4, task)
    for i in range(24):
        assert {(r.value, r.status) for r in sink.readings[101 + i]} == {(bool(held >> i & 1), GOOD)}
