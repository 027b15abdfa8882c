"""Every fault of a Modbus device at once, over TCP, a serial server and a serial port, each on a wire with neighbours.

On each wire station 1 is sick while stations 2 and 3 are well; a device of its own stands beside them all. The devices
run under the gateway's own supervisor, all in one process and on a time of their own: while the machine does not let
it run, nobody is silent. The scenario runs once and is written down; each test looks at one thing in it.
Every register holds 1000 x its station plus its address, so that a value attributed to the wrong point is seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from adapters.modbus import links
from gateway.contract import Clock
from gateway.contract.status import BAD_COMMUNICATION_ERROR, BAD_CONFIGURATION_ERROR, GOOD
from tests.support.machine import Stalls
from tests.support.modbus_device import Act, Asked, ModbusDevice, ModbusGateway
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_plant import Supervised, p99, run_all
from tests.support.own_time import OwnClock, OwnTimeLoop
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(600)  # a busy machine takes its time, and nothing here depends on it

PERIOD_S: Final = 0.5
TIMEOUT_S: Final = 0.5
LATE_S: Final = 0.7
"""a late reply: after its timeout, and in the middle of somebody else's request"""
STEADY_S: Final = 5.5
"""a link that has lived for 5 s is tried again often when it is lost: every 4 s at most in the first minute"""
SICK_S: Final = 6.0
BACK_S: Final = 4.0 + 3 * TIMEOUT_S + PERIOD_S
"""the longest back-off, a line's last questions to it, and a cycle"""
REQUESTS_S: Final = 0.03
"""the requests of the other healthy device on the wire"""
BOUND_S: Final = PERIOD_S + TIMEOUT_S + REQUESTS_S
"""what 99 of 100 gaps between healthy devices' readings do not exceed: one timeout of the sick one. What the work
of all these devices and stations in one process makes of it comes on top, see `History.work_s`"""

SICK, WELL = 1, (2, 3)
ADDRESSES: Final = {SICK: (0, 1, 2, 3, 4, 60, 120), 2: (0, 1, 60), 3: (0, 4, 120)}
HOLE, BLOCK = 2, 60
"""the address that does not exist where one does not; the one whose block is always answered short"""
ALL, LINES, NETWORKS = ("tcp", "rtu+tcp", "serial"), ("rtu+tcp", "serial"), ("tcp", "rtu+tcp")


@dataclass(frozen=True)
class Fault:
    """What a sick station does, and what becomes of it."""

    act: Callable[[Asked], Act | None]
    kinds: tuple[str, ...]
    """of wires that can have it"""
    down: bool = True
    counted: str = "timeouts"
    """as what each of its wrong replies is counted on a line"""
    counted_tcp: str = "bad_replies"
    whole_wire: bool = False
    """all stations do it: it is the wire's, not the station's"""
    bad: tuple[int, int] | None = None
    """the one point that is Bad, and its status"""


def always(**act: Any) -> Callable[[Asked], Act]:
    return lambda asked: Act(**act)


def short_block(asked: Asked) -> Act | None:
    return Act(cells_short=1) if asked.address == BLOCK else None


def never(asked: Asked) -> None:
    return None


FAULTS: Final = {
    "dead": Fault(always(silent=True), ALL, counted_tcp="timeouts"),
    "late": Fault(always(delay_s=LATE_S), ALL, counted_tcp="timeouts"),
    "transaction": Fault(always(transaction_offset=-1), ("tcp",)),
    "unit": Fault(always(station=9), ALL),
    "neighbour": Fault(always(station=2), ALL),
    "count-short": Fault(always(announce_extra=-2), ALL),
    "count-long": Fault(always(announce_extra=2), ALL),
    "long": Fault(always(cells_short=-8), ALL, counted="bad_replies"),
    "short": Fault(short_block, ALL, down=False, counted="bad_replies", bad=(BLOCK, BAD_COMMUNICATION_ERROR)),
    "checksum": Fault(always(corrupt=True), LINES),
    "garbage": Fault(always(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n"), ALL),
    "noise": Fault(always(noise=b"\x01\x03\xff", trailing=b"\x00\x55\xaa"), LINES, down=False, counted=""),
    "closing": Fault(always(close_after=True), NETWORKS, down=False, whole_wire=True, counted="", counted_tcp=""),
    "one-connection": Fault(never, NETWORKS, down=False, counted="", counted_tcp=""),
    "illegal": Fault(never, ALL, down=False, counted="", counted_tcp="", bad=(HOLE, BAD_CONFIGURATION_ERROR)),
}
CASES: Final = [(kind, name) for name, fault in FAULTS.items() for kind in fault.kinds]
every_case = pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{name}-{kind}" for kind, name in CASES])


class Wire:
    """Three stations on one wire, and the devices that read them."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name, self.fault = kind, name, FAULTS[name]
        self.sick_now = False
        self.wrong = 0
        """replies that the sick station gave wrongly, or did not give"""
        self.stations = {n: ModbusDevice(registers={a: 1000 * n + a for a in range(200)}) for n in (SICK, *WELL)}
        one = name == "one-connection"
        self.server: ModbusGateway | ModbusLine
        if kind == "tcp":
            self.server = ModbusGateway(stations=self.stations, script=self._script, one_connection=one)
        else:
            self.server = ModbusLine(self.stations, one_connection=one)
            for station in self.stations.values():
                station.script = self._script
        self.devices: dict[int, Supervised] = {}

    @property
    def sick(self) -> Supervised:
        return self.devices[SICK]

    def _script(self, asked: Asked) -> Act | None:
        if not self.sick_now or (asked.station != SICK and not self.fault.whole_wire):
            return None
        act = self.fault.act(asked)
        self.wrong += act is not None
        return act

    async def serve(self, stack: AsyncExitStack, clock: Clock) -> None:
        """Until the stack is closed; makes the devices."""
        if isinstance(self.server, ModbusGateway):
            url = f"tcp://127.0.0.1:{(await stack.enter_async_context(self.server.serve())).port}"
        elif self.kind == "serial":
            url = f"serial://{await stack.enter_async_context(self.server.on_pty())}?baud=115200&parity=N"
        else:
            url = f"rtu+tcp://127.0.0.1:{await stack.enter_async_context(self.server.on_tcp())}"
        self.devices = {
            n: Supervised(device_file(url, f"{self.name}-{self.kind.replace('+', '-')}-{n}", n), clock)
            for n in (SICK, *WELL)
        }

    def begin(self) -> None:
        """From now on it is sick."""
        self.sick_now = True
        if self.name == "illegal":
            self.stations[SICK].holes = {HOLE}
        if self.name == "one-connection":
            self.server.cut()

    def end(self) -> None:
        """It is well again."""
        self.sick_now = False
        self.stations[SICK].holes = set()


def device_file(url: str, name: str, station: int) -> dict[str, Any]:
    points = [{"point": f"p{n}", "address": f"holding {n}", "type": "uint16"} for n in ADDRESSES[station]]
    connection = {"url": url, "station": station, "timeout": f"{TIMEOUT_S}s"}
    return {"device": name, "adapter": "modbus", "every": f"{PERIOD_S}s", "points": points, "connection": connection}


@dataclass
class History:
    """What happened. Times are ns since the epoch."""

    wires: dict[tuple[str, str], Wire]
    alone: Supervised
    clock: Clock
    began_ns: int = 0
    ended_ns: int = 0
    over_ns: int = 0
    states: dict[str, str] = field(default_factory=dict)
    """of each device as its fault ended"""
    back_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """from the end of the fault until every point of the sick device had a good reading again"""
    told: list[str] = field(default_factory=list)
    """the log"""
    stalls: Stalls = field(default_factory=lambda: Stalls(asyncio.get_running_loop().time))
    """from the faults on"""

    @property
    def work_s(self) -> float:
        """The most that the work of this process keeps everybody waiting within the bound."""
        return self.stalls.worst_s(BOUND_S)

    def told_of(self, device: str) -> list[str]:
        """Changes of state that the log tells of a device."""
        changes = [line.split(": ", 2)[1] for line in self.told if line.startswith(f"{device}: ")]
        return [change.split(" ")[0] for change in changes if change.startswith(("connected", "down", "failed"))]


async def scenario(told: list[str]) -> History:
    links.LATE.clear()
    wires = {(kind, name): Wire(kind, name) for kind, name in CASES}
    clock = OwnClock()
    lonely = ModbusDevice(registers={a: 1000 * SICK + a for a in range(200)})
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        for wire in wires.values():
            await wire.serve(stack, clock)
        port = (await stack.enter_async_context(lonely.serve())).port
        alone = Supervised(device_file(f"tcp://127.0.0.1:{port}", "alone", SICK), clock)
        history = History(wires, alone, clock, told=told)
        devices = [history.alone, *(device for wire in wires.values() for device in wire.devices.values())]
        running = asyncio.create_task(run_all(devices, stop), name="devices")
        try:
            await eventually(lambda: all(device.state.state == "up" for device in devices), 60, "all devices are up")
            await asyncio.sleep(STEADY_S)
            history.began_ns = clock.time_ns()
            for wire in wires.values():
                wire.begin()
            await watched(history, SICK_S)
            history.states = {device.name: device.state.state for device in devices}
            history.ended_ns = clock.time_ns()
            for wire in wires.values():
                wire.end()
            async with asyncio.timeout(20):
                while not recovered(history):
                    await history.stalls.sleep(0.005)
            history.over_ns = clock.time_ns()
            await eventually(lambda: history.alone.fresh("p0", history.over_ns), message="one cycle more")
        finally:
            stop.set()
            await running
    return history


async def watched(history: History, seconds: float) -> None:
    """Wait, and see how late that is noticed on the way."""
    time = asyncio.get_running_loop().time
    until = time() + seconds
    while time() < until:
        await history.stalls.sleep(0.005)


def recovered(history: History) -> bool:
    """Notes which devices have come back; those whose address is left alone for a minute are not waited for."""
    for case, wire in history.wires.items():
        points = [f"p{n}" for n in ADDRESSES[SICK] if wire.fault.bad is None or n != wire.fault.bad[0]]
        if case not in history.back_s and all(wire.sick.fresh(point, history.ended_ns) for point in points):
            history.back_s[case] = (history.clock.time_ns() - history.ended_ns) / 1e9
    return len(history.back_s) == len(history.wires)


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with asyncio.Runner(loop_factory=OwnTimeLoop) as runner:
            made = runner.run(scenario(told))
        yield made
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@every_case
def test_neighbours_keep_their_period(history: History, kind: str, name: str) -> None:
    gaps_s: list[float] = []
    for device in (history.wires[kind, name].devices[n] for n in WELL):
        for point in device.readings:
            gaps_s += device.gaps_s(point, history.began_ns, history.over_ns)
            assert device.statuses(point, history.began_ns, history.over_ns) == {GOOD}
        assert device.state.state == "up"
        assert history.told_of(device.name) == ["connected"]
    gaps_s.sort()
    assert p99(gaps_s) <= BOUND_S + history.work_s, gaps_s[-5:]


@every_case
def test_missed_cycles_and_lateness_are_told(history: History, kind: str, name: str) -> None:
    """A cycle that waits for a timeout of the same length as its period is late, and hardly ever missed."""
    for device in (history.wires[kind, name].devices[n] for n in WELL):
        facts = device.adapter.facts()
        assert facts.polls is not None
        assert facts.polls > (history.over_ns - history.began_ns) / 1e9 / PERIOD_S / 2
        assert 0 < facts.poll_late_s <= TIMEOUT_S + PERIOD_S + history.work_s
        assert facts.polls_missed <= facts.polls * (0.1 + history.work_s / BOUND_S)


def test_a_device_of_its_own_keeps_its_period(history: History) -> None:
    assert history.stalls.kept_s < TIMEOUT_S / 2, "nothing here keeps the event loop for long"
    for point in history.alone.readings:
        assert p99(history.alone.gaps_s(point, history.began_ns, history.over_ns)) <= BOUND_S + history.work_s
    assert history.told_of("alone") == ["connected"]
    assert history.alone.adapter.counters.timeouts == 0


@every_case
def test_the_sick_device_is_in_the_right_state(history: History, kind: str, name: str) -> None:
    wire = history.wires[kind, name]
    down = wire.fault.down
    assert history.states[wire.sick.name] == ("down" if down else "up")
    assert history.told_of(wire.sick.name) == (["connected", "down", "connected"] if down else ["connected"])
    assert wire.sick.state.outages == int(down)
    assert wire.sick.state.state == "up"
    assert history.back_s[kind, name] <= BACK_S + history.work_s


@every_case
def test_its_points_are_bad_while_it_is_sick_and_only_those(history: History, kind: str, name: str) -> None:
    wire = history.wires[kind, name]
    # what was on its way as the fault began, or came for a block that had just been read
    start_ns = history.began_ns + int(2 * PERIOD_S * 1e9)
    for address in ADDRESSES[SICK]:
        found = wire.sick.statuses(f"p{address}", start_ns, history.ended_ns)
        if wire.fault.down:
            assert GOOD not in found
        elif wire.fault.bad and wire.fault.bad[0] == address:
            whole = wire.sick.statuses(f"p{address}", history.began_ns, history.over_ns)
            assert whole - {GOOD} == {wire.fault.bad[1]}
            assert GOOD not in found
        else:
            assert found == {GOOD}


@every_case
def test_no_value_is_attributed_to_the_wrong_point(history: History, kind: str, name: str) -> None:
    for number, device in history.wires[kind, name].devices.items():
        for address in ADDRESSES[number]:
            for reading in device.readings[f"p{address}"]:
                assert reading.value == (1000 * number + address if reading.status == GOOD else None)


@every_case
def test_every_wrong_reply_is_counted_once(history: History, kind: str, name: str) -> None:
    wire = history.wires[kind, name]
    counters = wire.sick.adapter.counters
    expected = {"timeouts": 0, "bad_replies": 0}
    counted = wire.fault.counted_tcp if kind == "tcp" else wire.fault.counted
    if counted:
        expected[counted] = wire.wrong
        assert wire.wrong >= 2
    assert {"timeouts": counters.timeouts, "bad_replies": counters.bad_replies} == expected
    facts = wire.sick.adapter.facts()
    assert (facts.timeouts, facts.bad_replies) == (counters.timeouts, counters.bad_replies)
    for number in WELL:
        well = wire.devices[number].adapter.counters
        assert (well.timeouts, well.bad_replies) == (0, 0)


@every_case
def test_all_that_came_was_accepted(history: History, kind: str, name: str) -> None:
    for device in history.wires[kind, name].devices.values():
        good = sum(reading.status == GOOD for readings in device.readings.values() for reading in readings)
        assert device.counts.quality[0] == good
        assert device.counts.readings == sum(map(len, device.readings.values()))


@pytest.mark.parametrize("kind", NETWORKS)
def test_one_connection_was_enough(history: History, kind: str) -> None:
    assert history.wires[kind, "one-connection"].server.refused_connections == 0


@every_case
def test_a_sick_device_is_asked_little(history: History, kind: str, name: str) -> None:
    """Less than when it is well; the back-off's jitter does not let one say how much less."""
    wire = history.wires[kind, name]
    if wire.fault.down:
        seconds = (history.ended_ns - history.began_ns) / 1e9
        assert wire.wrong < 3 * seconds / PERIOD_S
