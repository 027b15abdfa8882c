"""Hours of faults in minutes: every transport, each wire ill in its own way every other second, devices restarted.

    python -m tests.soak.modbus_faults --seconds 180 --seed 1

Fails when a value is another point's, a reading comes twice or goes back in time, a device is not read again once all
is well, a file is left open, or memory grows. Registers hold 1000 x their station plus their address. What no master
can tell is not done: to answer late in a neighbour's name on a line, or one reply in the middle of another over TCP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

from gateway.contract.status import GOOD
from gateway.log.records import BatchRecord, Record
from tests.integration.test_modbus_dial_in import modem
from tests.support.modbus_device import Act, Asked, ModbusDevice, ModbusGateway
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_plant import Supervised
from tests.support.modbus_udp import serve_udp
from tests.support.wait import eventually

KINDS: Final = ("tcp", "pipelined", "udp", "rtu+tcp", "ascii+tcp", "serial", "listen+rtu")
STATIONS: Final = (1, 2)
ADDRESSES: Final = (0, 1, 2, 40, 80, 81, 120, 199)
TIMEOUT_S: Final = 0.3
EPISODE_S: Final = (0.3, 3.0)
"""shortest and longest of a fault, and of the health behind it"""
WELL_S: Final = 75.0
"""until which a device is read again in full: longer than an address that was refused is left alone"""
GROWTH_BYTES: Final = 24_000_000

Fault = Callable[[random.Random], Act | None]
EVERYWHERE: Final[dict[str, Fault]] = {
    "silent": lambda draw: Act(silent=True),
    "late": lambda draw: Act(delay_s=draw.uniform(0.5, 3.0) * TIMEOUT_S),
    "busy": lambda draw: Act(exception=draw.choice((5, 6))),
    "failing": lambda draw: Act(exception=draw.choice((1, 4, 8, 0x0A, 0x0B, 0x77))),
    "late exception": lambda draw: Act(exception=4, delay_s=draw.uniform(0.5, 2.0) * TIMEOUT_S),
    "refusing": lambda draw: Act(exception=draw.choice((2, 3))) if draw.random() < 0.02 else None,
    "another station": lambda draw: Act(station=9),
    "another function": lambda draw: Act(function=draw.choice((1, 4, 16))),
    "wrong count": lambda draw: Act(announce_extra=draw.choice((-2, 2, 100))),
    "long": lambda draw: Act(cells_short=-draw.randint(1, 8)),
    "short": lambda draw: Act(cells_short=1) if draw.random() < 0.02 else None,
    "garbage": lambda draw: Act(raw=draw.randbytes(draw.randint(1, 300))),
    "slow": lambda draw: Act(drip_s=0.002),
}
LINES: Final[dict[str, Fault]] = {
    "noise": lambda draw: Act(noise=draw.randbytes(draw.randint(1, 20)), trailing=draw.randbytes(draw.randint(0, 9))),
    "checksum": lambda draw: Act(corrupt=True),
}
NUMBERED: Final[dict[str, Fault]] = {"transaction": lambda draw: Act(transaction_offset=300)}
NETWORKS: Final[dict[str, Fault]] = {"closing": lambda draw: Act(close_after=True)}


class Checked(Supervised):
    """Looks at every reading and keeps none."""

    def __init__(self, content: dict[str, Any], station: int) -> None:
        super().__init__(content)
        self._station = station
        self._newest: dict[int, int] = {}
        self.good_at: dict[int, int] = {}
        """when the newest good reading of each point was taken, ns since the epoch"""
        self.seen = self.good = 0
        self.wrong: list[str] = []
        """what should never be"""

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Checked:
        """See `Supervised`."""
        for record in records:
            if isinstance(record, BatchRecord):
                batch = record.batch
                for i, index in enumerate(batch.points.tolist()):
                    value = int(batch.values[i]) if batch.valid[i] else None
                    self._look(index, value, int(batch.status[i]), int(batch.source_time[i]))
        return self

    def _look(self, index: int, value: int | None, status: int, time_ns: int) -> None:
        self.seen += 1
        name = self._names[index]
        before = self._newest.get(index, 0)
        # a block's own Bad reading and the supervisor's of the outage behind it may be of one moment
        if time_ns < before or (time_ns == before and status == GOOD):
            self.wrong.append(f"{self.name}: {name} again, or back by {before - time_ns} ns, status {status:08X}")
        self._newest[index] = time_ns
        expected = 1000 * self._station + int(name[1:]) if status == GOOD else None
        if value != expected:
            self.wrong.append(f"{self.name}: {name} is {value} instead of {expected}")
        if status == GOOD:
            self.good += 1
            self.good_at[index] = time_ns

    def check(self) -> None:
        """Raises AssertionError for what was wrong so far."""
        assert not self.wrong, self.wrong[:5]
        assert self.state.state != "failed", self.state.error


class Wire:
    """Stations on a wire, what is wrong with them, and the devices that read them."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.draw = random.Random(f"{kind} {seed}")
        self.faults = EVERYWHERE | {
            "udp": NUMBERED, "tcp": NUMBERED | NETWORKS, "pipelined": NUMBERED | NETWORKS,
            "rtu+tcp": LINES | NETWORKS, "ascii+tcp": LINES | NETWORKS, "listen+rtu": LINES, "serial": LINES,
        }[kind]  # fmt: skip
        if kind in ("tcp", "pipelined", "udp"):
            del self.faults["slow"]
        self.ill: dict[int, Fault] = {}
        self.episodes = self.restarts = 0
        stations = {n: ModbusDevice(registers={a: 1000 * n + a for a in range(256)}) for n in STATIONS}
        self.server: ModbusGateway | ModbusLine
        if kind in ("tcp", "pipelined", "udp"):
            self.server = ModbusGateway(stations=stations, script=self._script)
        else:
            self.server = ModbusLine(stations, "ascii" if "ascii" in kind else "rtu")
            for station in stations.values():
                station.script = self._script
        self._stations = stations
        self.devices: dict[int, Checked] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def _script(self, asked: Asked) -> Act | None:
        fault = self.ill.get(asked.station)
        return fault(self.draw) if fault and self.draw.random() < 0.8 else None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Yields the url."""
        async with AsyncExitStack() as stack:
            if self.kind == "udp":
                yield f"udp://127.0.0.1:{await stack.enter_async_context(serve_udp(self.server))}"  # type: ignore[arg-type]
            elif isinstance(self.server, ModbusGateway):
                yield f"tcp://127.0.0.1:{(await stack.enter_async_context(self.server.serve())).port}"
            elif self.kind == "serial":
                yield f"serial://{await stack.enter_async_context(self.server.on_pty())}?baud=115200&parity=N"
            elif self.kind == "listen+rtu":
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    port = probe.getsockname()[1]
                task = asyncio.create_task(self._dial(port, self.server), name="modem")
                stack.callback(task.cancel)
                yield f"listen+rtu://127.0.0.1:{port}?id=DTU"
            else:
                yield f"{self.kind}://127.0.0.1:{await stack.enter_async_context(self.server.on_tcp())}"

    async def _dial(self, port: int, line: ModbusLine) -> None:
        """Again and again, as the network lets it: a new connection while the old one stands, or after a pause."""
        while True:
            with contextlib.suppress(AssertionError, ConnectionError):  # nobody listened for 20 s
                async with modem(port, line, b"DTU"):
                    await asyncio.sleep(self.draw.uniform(5, 20))

    def start(self, url: str, number: int) -> None:
        """Run the device of a station, as after a change of its file."""
        points = [{"point": f"p{a}", "address": f"holding {a}", "type": "uint16"} for a in ADDRESSES]
        way = {"url": url, "station": number, "timeout": f"{TIMEOUT_S}s"}
        load = {"outstanding": 4, "connections": 2} if self.kind == "pipelined" else {}
        file = {"device": f"{self.kind.replace('+', '-')}-{number}", "adapter": "modbus", "every": "200ms"}
        device = Checked({**file, "points": points, "connection": way, "load": load}, number)
        self.devices[number] = device
        self._tasks[number] = asyncio.create_task(device.run(), name=device.name)

    async def stop(self, number: int) -> None:
        """Raises AssertionError for what was wrong."""
        task = self._tasks.pop(number)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        self.devices[number].check()

    async def suffer(self, url: str, until: float) -> None:
        """Fall ill and get well until a moment (monotonic seconds)."""
        while time.monotonic() < until:
            for number in STATIONS:
                fault = self.draw.choice([*self.faults.values(), None])
                self.ill.pop(number, None)
                if fault:
                    self.ill[number] = fault
            self.episodes += 1
            await asyncio.sleep(self.draw.uniform(*EPISODE_S))
            if self.draw.random() < 0.1 and self.kind not in ("udp", "serial"):
                self.server.cut()
            if self.draw.random() < 0.1:
                number = self.draw.choice(STATIONS)
                await self.stop(number)
                self.restarts += 1
                self.start(url, number)
            self.ill.clear()
            await asyncio.sleep(self.draw.uniform(*EPISODE_S))
            self._forget()

    def tell(self) -> None:
        """Print what became of the devices."""
        print(f"{self.kind}: {self.episodes} episodes, {self.restarts} restarts; since the last one:")
        for device in self.devices.values():
            facts, outages = device.adapter.facts(), device.state.outages
            print(f"  {device.name}: {device.good:,} good of {device.seen:,} readings, {outages} outages, "
                  f"{facts.timeouts} timeouts, {facts.bad_replies} bad replies")  # fmt: skip

    def _forget(self) -> None:
        """The plant's own records would be taken for growth."""
        for one in (self.server, *self._stations.values()):
            one.asked.clear()
        if isinstance(self.server, ModbusLine):
            self.server.raw = b""
            self.server.strange.clear()

    def well(self, since_ns: int) -> bool:
        """Whether every point of every device was read since then. Raises AssertionError for what was wrong."""
        for device in self.devices.values():
            device.check()
        return all(
            len(device.good_at) == len(ADDRESSES) and min(device.good_at.values()) > since_ns
            for device in self.devices.values()
        )


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def files() -> int:
    """Open files and sockets."""
    return len(os.listdir("/proc/self/fd"))


class Held(NamedTuple):
    """What this process holds."""

    memory: int
    files: int
    tasks: int


def held() -> Held:
    """Now."""
    return Held(resident(), files(), len(asyncio.all_tasks()))


async def watch(every_s: float, sizes: list[Held]) -> None:
    """Note what is held, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        sizes.append(held())
        print(f"  {sizes[-1].memory / 1e6:.1f} MB, {sizes[-1].files} files, {sizes[-1].tasks} tasks", flush=True)


async def soak(seconds: float, seed: int) -> None:
    """Raises AssertionError for what is wrong."""
    wires = [Wire(kind, seed) for kind in KINDS]
    before = files()
    sizes: list[Held] = []
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(wire.served()) for wire in wires]
        for wire, url in zip(wires, urls, strict=True):
            for number in STATIONS:
                wire.start(url, number)
        begun_ns = time.time_ns()
        await eventually(lambda: all(wire.well(begun_ns) for wire in wires), 60, "all are read before anything is ill")
        watching = asyncio.create_task(watch(seconds / 12, sizes), name="watch")
        until = time.monotonic() + seconds
        await asyncio.gather(*(wire.suffer(url, until) for wire, url in zip(wires, urls, strict=True)))
        watching.cancel()
        healed_ns = time.time_ns()
        for wire in wires:
            await eventually(lambda w=wire: w.well(healed_ns), WELL_S, f"{wire.kind} is read again")  # type: ignore[misc]
        sizes.append(held())
        for wire in wires:
            wire.tell()
            for number in STATIONS:
                await wire.stop(number)
    await eventually(lambda: files() <= before, 20, "all files are closed")
    settled = max(size.memory for size in sizes[2:5])
    grown = sizes[-1].memory - settled
    print(
        f"at most {max(s.files for s in sizes)} files and {max(s.tasks for s in sizes)} tasks; memory {grown:+,} bytes"
    )
    assert grown < GROWTH_BYTES, f"memory grew: {[size.memory for size in sizes]}"


def main() -> int:
    """Returns 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"Modbus faults for {arguments.seconds:g} s, seed {arguments.seed}")
    try:
        asyncio.run(soak(arguments.seconds, arguments.seed))
    except AssertionError as error:
        print(f"wrong: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
