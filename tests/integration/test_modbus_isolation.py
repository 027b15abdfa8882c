"""What a device refuses or does not answer stays its own, and is held against the right block only."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from adapters.modbus import links
from gateway.contract import LinkLost
from gateway.contract.status import BAD_CONFIGURATION_ERROR, BAD_NO_COMMUNICATION, GOOD
from tests.integration.test_modbus_adapter import holding
from tests.integration.test_modbus_lines import device_file as line_file
from tests.integration.test_modbus_lines import served, station
from tests.integration.test_modbus_sharing import statuses
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_sink import CollectingSink, build, cycles, device_file, running


@pytest.fixture(autouse=True)
def another_wire() -> None:
    links.LATE.clear()


async def test_a_neighbour_has_its_turns_while_a_block_is_bisected() -> None:
    """Every second address of a block is refused, which takes 40 requests to find out."""
    line = ModbusLine({n: station(n, lambda asked: Act(delay_s=0.005)) for n in (1, 2)})
    line.stations[1].holes = set(range(1, 100, 2))
    well, bisected = CollectingSink(), CollectingSink()
    async with served(line, "rtu+tcp") as url, running(build(line_file(url, 2, (0,), every="1ms")), well) as task:
        await cycles(well, 100, 3, task)
        async with running(build(line_file(url, 1, range(100), every="60s")), bisected) as other:
            await cycles(bisected, 100, 1, other)
        await cycles(well, 100, len(well.readings[100]) + 3, task)
    order = [asked.station for asked in line.asked]
    at = [i for i, number in enumerate(order) if number == 1]
    assert len(at) > 30
    # whoever has been due for longest comes next: a neighbour that is always due is asked between any two of them
    assert max(_runs(order[at[0] : at[-1] + 1], 1)) <= 2
    assert statuses(well) == {GOOD}
    assert BAD_CONFIGURATION_ERROR in statuses(bisected)


def _runs(order: list[int], number: int) -> list[int]:
    """Lengths of uninterrupted stretches of a station."""
    edges = [i for i, (a, b) in enumerate(pairwise([*order, 0])) if a != b]
    return [b - a for a, b in pairwise([-1, *edges]) if order[b] == number]


async def test_a_device_that_went_away_in_its_last_block_reads_it_at_once_when_it_is_back() -> None:
    """It did not answer for its last block because it was switched off; then nobody was there to connect to."""
    device = ModbusDevice()
    sink = CollectingSink()
    async with device.serve():
        adapter = build(device_file(device.port, holding(0, 200)))
        tries: list[Asked] = []

        def script(asked: Asked) -> Act | None:
            if tries or (asked.number > 4 and asked.address == 200):
                tries.append(asked)
            if len(tries) == 2:
                device.stop_listening()
            return Act(silent=True) if tries else None

        device.script = script
        with pytest.raises(LinkLost):
            await adapter.run(sink)
    device.script = lambda asked: None
    before = len(sink.offers)
    async with device.serve(), running(adapter, sink) as task:
        await cycles(sink, 100, len(sink.readings[100]) + 1, task)
    assert set(sink.offers[before][0][0].points) == {100, 101}


async def test_a_gateway_in_between_that_answers_for_a_device_convicts_no_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first block is not answered at all; for the second the gateway says that the device does not answer."""

    def script(asked: Asked) -> Act | None:
        return Act(silent=True) if asked.address == 0 else Act(exception=0x0B)

    device = ModbusDevice(script=script)
    sink = CollectingSink()
    async with device.serve():
        adapter = build(device_file(device.port, holding(0, 200)))
        with caplog.at_level(logging.WARNING), pytest.raises(LinkLost, match="exception 11"):
            await adapter.run(sink)
        assert {reading.status for reading in sink.readings[101]} == {BAD_NO_COMMUNICATION}
        assert not [record for record in caplog.records if "does not answer for" in record.message]
        device.script = lambda asked: None
        before = len(sink.offers)
        async with running(adapter, sink) as task:
            await cycles(sink, 101, 2, task)
    assert set(sink.offers[before][0][0].points) == {100, 101}
