"""What disk and clock do to a gateway that runs, or starts: it never refuses to start, says what is wrong and what to
do, goes on by itself, gives no offset twice and loses nothing that it accepted.

docs/log-faults.md has the whole table, with the tests of the log alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.plant.modbus import ModbusDevice
from tests.support.crash_plant import counting_device, counting_file
from tests.support.faulty_machine import FaultyMachine
from tests.support.rig import ANSWER_S, START_S, Delivery, GatewayProcess
from tests.support.wait import eventually

NEXT_STEPS = {"read-only": "mount it writable again", "full": "free space"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FaultyMachine]:
    with FaultyMachine(tmp_path) as machine:
        yield machine


@pytest.fixture
async def plant() -> AsyncIterator[ModbusDevice]:
    async with counting_device() as device:
        yield device


class Rig:
    """A gateway on the faulty machine, and its centre."""

    def __init__(self, folder: Path, plant: ModbusDevice, machine: FaultyMachine) -> None:
        self.machine = machine
        self.plant = plant
        self.delivery = Delivery(folder)
        log = {"path": str(machine.disk / "log"), "commit": "50ms"}
        self.gateway = GatewayProcess(
            folder, [counting_file(plant.url)], destinations=[self.delivery.destination()], log=log
        )

    def start(self) -> None:
        self.gateway.start(**self.machine.environment())

    def break_disk(self, how: str) -> None:
        {"read-only": self.machine.turn_read_only, "full": self.machine.fill}[how]()

    async def more_is_delivered(self) -> None:
        before = self.stored()
        await eventually(lambda: self.stored() > before + 300, START_S, "more is delivered")

    def stored(self) -> int:
        with self.delivery.report() as report:
            return report.total()

    def unready(self) -> str:
        """What /readyz says against it; empty when it is ready, or does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.metrics_port}/readyz", timeout=ANSWER_S):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error)["log"])
        except OSError:
            return ""

    async def waits(self, next_step: str) -> None:
        """The gateway says that it takes nothing, and what to do."""
        await eventually(lambda: next_step in self.unready(), START_S, "readyz says what to do")
        assert self.gateway.metric("edge_gateway_log_stalled") == 1
        assert self.gateway.alive

    async def stop(self) -> None:
        assert await self.delivery.stop(self.gateway) == 0, self.gateway.output

    def check(self, *, streams: int = 1) -> list[dict[str, Any]]:
        """Everything accepted is stored, no offset was used twice; returns the last word on each gap."""
        with self.delivery.report() as report:
            assert report.errors() == {}, report.error_samples()
            assert report.conflicts() == [], "an offset was used twice"
            assert report.missing() == []
            assert report.reconcile().exact, report.reconcile()
            assert len({count.source.stream for count in report.counts()}) == streams
            return list({gap["id"]: gap for gap in report.events("gap/1")}.values())


@pytest.fixture
def rig(tmp_path: Path, plant: ModbusDevice, machine: FaultyMachine) -> Iterator[Rig]:
    rig = Rig(tmp_path, plant, machine)
    with rig.delivery, rig.gateway:
        yield rig
        sys.stdout.write(rig.gateway.output[-6000:])  # pytest shows it when the test has failed


@pytest.mark.parametrize("how", ["read-only", "full"])
async def test_a_disk_that_cannot_be_written_at_start(rig: Rig, how: str) -> None:
    """It waits and asks nobody; a stop ends the wait; once the disk can be written it goes on by itself."""
    rig.break_disk(how)
    rig.start()
    await rig.waits(NEXT_STEPS[how])
    assert await asyncio.to_thread(rig.gateway.stop) == 0, "a stop is not held up"
    rig.start()
    await rig.waits(NEXT_STEPS[how])
    assert rig.plant.connections_opened == 0, "what could not be kept is not asked for"
    rig.machine.mend()
    await rig.more_is_delivered()
    await rig.stop()
    assert rig.gateway.output.count("nothing is acquired until it can be written") == 2, "one line for each outage"
    assert rig.gateway.output.count("it can be written again after") == 1
    assert rig.check() == [], "a log that was never written has no gap"


@pytest.mark.parametrize("how", ["read-only", "full"])
async def test_a_disk_that_cannot_be_written_while_running(rig: Rig, how: str) -> None:
    """What is in memory waits on a full disk; on a read-only one the log is opened anew, and the time is a gap."""
    rig.start()
    await rig.more_is_delivered()
    rig.break_disk(how)
    await rig.waits(NEXT_STEPS[how])
    if how == "read-only":
        await eventually(lambda: "nothing is acquired until" in rig.gateway.output, START_S)
    rig.machine.mend()
    await rig.more_is_delivered()
    await rig.stop()
    said = "it can be written again after" if how == "read-only" else "the log is written again"
    assert rig.gateway.output.count(said) == 1
    assert "Traceback" not in rig.gateway.output
    assert "please report this" not in rig.gateway.output
    reasons = [(gap["reason"], bool(gap["to"])) for gap in rig.check()]
    assert reasons == ([("gateway-down", True)] if how == "read-only" else [])


YEAR_NS = 31_556_952 * 10**9
CLOCKS: dict[str, Callable[[], int]] = {
    "1970": lambda: 10**9 - time.time_ns(),
    "2039": lambda: 2**31 * 10**9 + YEAR_NS - time.time_ns(),
}


@pytest.mark.parametrize("year", CLOCKS)
async def test_a_clock_in_another_century_at_start_that_is_put_right_later(rig: Rig, year: str) -> None:
    """Forwards from 1970 and backwards from 2039: the same stream goes on, and the step is an event."""
    rig.machine.set_clock(CLOCKS[year]())
    rig.start()
    await rig.more_is_delivered()
    rig.machine.set_clock(0)
    await eventually(lambda: steps(rig), START_S, "the step is told")
    await rig.more_is_delivered()
    await rig.stop()
    rig.start()
    await rig.more_is_delivered()
    await rig.stop()
    rig.check()
    assert [event["reason"] for event in steps(rig)] == ["step"]
    assert steps(rig)[0]["step_ns"] * CLOCKS[year]() < 0
    with rig.delivery.report() as report:
        years = {time.gmtime(reading.t_ns / 1e9).tm_year for reading in report.readings("counter")}
    assert {int(year), time.gmtime().tm_year} == years, "each reading has the time that it was given"


def steps(rig: Rig) -> list[dict[str, Any]]:
    with rig.delivery.report() as report:
        return report.events("clock/1")
