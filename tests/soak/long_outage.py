"""A long outage at 1,000 readings a second in compressed time, and what comes after it.

    python -m tests.soak.long_outage [--hours 72] [--help]

The log is filled by the real writer as fast as it takes readings, with the times of so many hours; files are made into
blocks as on an SSD; a second log with a small budget lets its oldest files go. Then `edge-gateway run` opens the log
and drains it to a real Mosquitto and a counting receiver, while ten Modbus devices give it 1,000 new readings a second.
Prints a table; ends with 1 when a bound is broken. 72 hours take about 25 minutes, and 1.5 GB below --folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from benchmarks.load.filling import SECOND, FillClock, Filled, fill, open_store
from benchmarks.rig.processes import CORES, Bench, Child, free_port
from gateway.contract.clock import SystemClock
from gateway.log import LogStore, StateStore, Tail
from gateway.log.records import Segment
from gateway.points.table import PointTable
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.runtime.housekeeping import Housekeeping
from simulators.plant.modbus import ModbusDevice
from tests.soak.outage_plant import ENTERPRISE, GATEWAY, RATE, OutagePlant
from tests.support.rig import GatewayProcess
from tests.support.wait import eventually

LIVE_DEVICES: Final = 10
COMMIT_S: Final = 0.2
"""of the gateway that drains: the default on an SSD"""
MAX_WAIT_S: Final = 1.0
"""the default batch time of a destination"""
DELAY_BOUND_S: Final = MAX_WAIT_S + 2 * COMMIT_S
LEAST_RATE: Final = 20 * RATE
LOOK_S: Final = 5.0
SETTLE_S: Final = 2.0
"""not counted in the delay: devices connect, and what they gave until the destination was reached is sent at once"""
NEARLY: Final = 2 * RATE
"""readings that wait when only live ones do"""


class Budgeted(NamedTuple):
    """What a log with a small budget let go."""

    budget: int
    highest: int
    """bytes on disk, the most that was seen when housekeeping had looked"""
    accepted: int
    dropped: int
    """by the destination's account"""
    waiting: int
    gone: int
    """readings that are not in the log any more, counted from its heads"""

    @property
    def exact(self) -> bool:
        """Is every reading either there or counted?"""
        return self.dropped == self.gone and self.accepted == self.dropped + self.waiting


class Drained(NamedTuple):
    """What the gateway did with the backlog."""

    seconds: float
    """from the first to the last message of the backlog that was looked at"""
    readings: int
    """of the backlog, in that time"""
    complete: bool
    received: dict[str, Any]
    """what the receiver says in the end"""
    delay: dict[str, float]
    """of live readings while the backlog drained, seconds"""
    cpu: float
    """cores that the gateway used"""
    rss: int
    """bytes, the most seen"""
    started_s: float
    """from the start of the process to its first message of the backlog"""
    difference: float
    """of the account"""
    dropped: float
    """readings that the account says were dropped"""

    @property
    def rate(self) -> float:
        """Readings of the backlog in a second."""
        return self.readings / self.seconds if self.seconds else 0.0


async def fill_log(folder: Path, hours: float, commit_s: float) -> Filled:
    """A log that nobody fetched anything from, up to now."""
    clock = FillClock(time.time_ns() - int(hours * 3600) * SECOND)
    store, _ = open_store(folder, clock, enterprise=ENTERPRISE, gateway=GATEWAY)
    with contextlib.closing(store):
        return await fill(store, clock, OutagePlant(), round(hours * 3600), commit_s)


class Blocks(NamedTuple):
    """What compaction did."""

    files: int
    readings: int
    before: int
    """bytes on disk"""
    after: int
    cpu_s: float


def make_blocks(folder: Path, seconds: float) -> Blocks:
    """Compact closed files for at most so long."""
    store, _ = open_store(folder, SystemClock(), enterprise=ENTERPRISE, gateway=GATEWAY)
    deadline = time.monotonic() + seconds
    began = time.process_time()
    with contextlib.closing(store):
        before = {file.path: file.bytes for file in store.files() if not file.in_blocks}
        while time.monotonic() < deadline and store.compact(lambda _: time.monotonic() < deadline) is not None:
            pass
        cpu_s = time.process_time() - began
        made = [file for file in store.files() if file.in_blocks and file.path in before]
        readings = sum(
            head.readings for file in made for _, heads in store.heads(file.first, file.end) for head in heads
        )
    return Blocks(len(made), readings, sum(before[file.path] for file in made), sum(file.bytes for file in made), cpu_s)


async def fill_with_budget(folder: Path, hours: float, commit_s: float, budget: int) -> Budgeted:
    """The same with a budget that does not hold it all, and a destination that cannot be reached."""
    clock = FillClock(time.time_ns() - int(hours * 3600) * SECOND)
    store, _ = open_store(folder, clock, enterprise=ENTERPRISE, gateway=GATEWAY, budget=budget)
    table, tail = PointTable(), Tail(store.bounds().end)
    with contextlib.closing(store), contextlib.closing(StateStore(folder / "state.db")) as state:
        publisher = _publisher(store, tail, state, table)
        keeping = Housekeeping(
            store, folder, [publisher], budget_bytes=budget, keep_s=1e9, clock=clock, drop_undelivered=True
        )
        highest = 0

        async def tidy() -> None:
            nonlocal highest
            await keeping.tidy()
            highest = max(highest, sum(file.bytes for file in store.files()))

        def committed(segments: list[Segment]) -> None:
            for segment in segments:
                table.apply(segment.records)
            tail.add(segments)

        async with _running(publisher):
            seconds = round(hours * 3600)
            filled = await fill(store, clock, OutagePlant(), seconds, commit_s, on_commit=committed, tidy=tidy)
            await eventually(lambda: publisher.statistics().total.accepted == filled.readings, 30)
            total = publisher.statistics().total
        first, end = store.bounds()
        kept = sum(head.readings for _, heads in store.heads(first, end) for head in heads)
    dropped = sum(total.dropped.values())
    return Budgeted(budget, highest, total.accepted, dropped, total.waiting, filled.readings - kept)


async def drain(folder: Path, backlog: int, most_s: float, *, settle_s: float = SETTLE_S, **keys: Any) -> Drained:
    """Run the gateway on `folder`/log until `backlog` readings of before are delivered, at most for `most_s`."""
    with Bench() as bench:
        bench.broker()
        receiver = bench.start(
            "receiver",
            [sys.executable, "-m", "benchmarks.receive.lanes", "--port", str(bench.broker_port)],
            CORES.load,
        )
        receiver.ask()
        async with live_devices() as devices:
            destination = {
                "name": "centre",
                "url": f"mqtt://127.0.0.1:{bench.broker_port}",
                "max_grade": 2,
                "batch": {"max_wait": f"{MAX_WAIT_S:g}s"},
            }
            log = {"path": str(folder / "log"), "commit": f"{COMMIT_S:g}s", **keys}
            with GatewayProcess(folder, devices, destinations=[destination], log=log) as gateway:
                gateway.start()
                return await _watch(gateway, receiver, backlog, most_s, settle_s)


async def _watch(gateway: GatewayProcess, receiver: Child, backlog: int, most_s: float, settle_s: float) -> Drained:
    begun = time.monotonic()
    first = await eventually(lambda: _seen(receiver, "backlog"), 120, "the backlog drains")
    started_s = time.monotonic() - begun
    await eventually(lambda: _seen(receiver, "live"), 60, "live readings come")
    await asyncio.sleep(settle_s)
    receiver.ask("reset")
    process = psutil.Process(gateway.pid)
    before, rss = process.cpu_times(), 0
    deadline = time.monotonic() + most_s
    while True:
        now = await asyncio.to_thread(receiver.ask, "stats")
        rss = max(rss, process.memory_info().rss)
        came = now["lanes"]["backlog"]
        if came >= backlog or time.monotonic() > deadline:
            break
        _progress(now, came, backlog, rss)
        await asyncio.sleep(min(LOOK_S, max(0.1, (backlog - came) / 200_000)))
    used = process.cpu_times()
    seconds = now["time"] - first["time"]
    complete = came >= backlog
    if complete:
        await eventually(
            lambda: gateway.metric("edge_gateway_account_waiting", destination="centre") < NEARLY, 60, "little waits"
        )
    account = gateway.metrics()
    return Drained(
        seconds,
        came - first["lanes"]["backlog"],
        complete,
        await asyncio.to_thread(receiver.ask, "stats"),
        now["delay_s"] or {"p50": 0.0, "p99": 0.0, "max": 0.0, "count": 0},
        (used.user + used.system - before.user - before.system) / max(seconds, 1e-9),
        rss,
        started_s,
        sum(account["edge_gateway_account_difference"].values()),
        sum(account.get("edge_gateway_account_dropped_total", {}).values()),
    )


def _seen(receiver: Child, lane: str) -> dict[str, Any] | None:
    found: dict[str, Any] = receiver.ask("stats")
    return found if found["lanes"].get(lane) else None


def _progress(now: dict[str, Any], came: int, backlog: int, rss: int) -> None:
    delay = now["delay_s"] or {"p50": 0, "max": 0}
    text = f"  {came:,} of {backlog:,}; live delay p50 {delay['p50']:.2f} max {delay['max']:.2f} s; {rss / 1e6:.0f} MB"
    print(text, file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def live_devices() -> AsyncIterator[list[dict[str, Any]]]:
    """Device files of ten Modbus devices with 100 points each, all of which change every second."""
    async with contextlib.AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(ModbusDevice({"holding": dict.fromkeys(range(100), 0)}))
            for _ in range(LIVE_DEVICES)
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        counting = group.create_task(_count(devices), name="counting")
        stack.callback(counting.cancel)
        yield [_device_file(number, device.url) for number, device in enumerate(devices)]


async def _count(devices: Sequence[ModbusDevice]) -> None:
    for tick in range(1 << 30):
        for device in devices:
            device.write("holding", 0, [(tick + k) & 0xFFFF for k in range(100)])
        await asyncio.sleep(1)


def _device_file(number: int, url: str) -> dict[str, Any]:
    points = [{"point": f"p{index}", "address": f"holding {index}", "type": "uint16"} for index in range(100)]
    return {
        "device": f"live-{number}",
        "adapter": "modbus",
        "connection": {"url": url},
        "every": "1s",
        "points": points,
    }


def _publisher(store: LogStore, tail: Tail, state: StateStore, table: PointTable) -> Publisher:
    """A destination whose broker is away."""
    config = DestinationConfig(name="centre", url=f"mqtt://127.0.0.1:{free_port()}", max_grade=2)
    return Publisher(
        config,
        enterprise=ENTERPRISE,
        gateway=GATEWAY,
        version="soak",
        timezone=UTC,
        log=store,
        tail=tail,
        state=state,
        points=table,
        clock=SystemClock(),
    )


@contextlib.asynccontextmanager
async def _running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def fill_lines(hours: float, commit_s: float, filled: Filled) -> Iterator[str]:
    """What a fill shows."""
    each = filled.disk_bytes / filled.readings
    yield f"outage of {hours:g} h at {RATE:,} readings/s, one commit every {commit_s:g} s"
    yield f"  readings written         {filled.readings:>15,}"
    yield f"  in                       {filled.seconds:>15,.0f} s ({filled.readings / filled.seconds:,.0f} readings/s)"
    yield f"  on disk, as written      {filled.disk_bytes:>15,} bytes ({each:.2f} a reading)"
    yield f"  so 72 h take             {each * 72 * 3600 * RATE / 1e9:>15.2f} GB without blocks (eMMC, SD)"


def block_lines(made: Blocks) -> Iterator[str]:
    """What compaction shows."""
    if not made.files:
        yield "  no closed file was made into blocks"
        return
    each = made.after / made.readings
    yield f"  made into blocks         {made.files:>15} files: {made.before:,} bytes became {made.after:,}"
    yield f"  a reading in blocks      {each:>15.2f} bytes, {made.cpu_s / made.readings * 1e6:.1f} us of processor"
    yield f"  so 72 h take             {each * 72 * 3600 * RATE / 1e9:>15.2f} GB in blocks (SSD)"


def budget_lines(hours: float, found: Budgeted) -> Iterator[str]:
    """What the small budget shows."""
    yield f"{hours:g} h with a budget of {found.budget:,} bytes, when_full: drop-oldest"
    yield f"  on disk at most          {found.highest:>15,} bytes"
    yield f"  accepted                 {found.accepted:>15,}"
    yield f"  dropped, by the account  {found.dropped:>15,}"
    yield f"  gone, by the log         {found.gone:>15,}"
    yield f"  waiting                  {found.waiting:>15,}"


def drain_lines(found: Drained) -> Iterator[str]:
    """What the drain shows."""
    delay, received = found.delay, found.received
    yield f"drained by edge-gateway run, JSON, no bandwidth cap, {RATE:,} live readings/s beside it"
    yield f"  first message after      {found.started_s:>15.1f} s"
    stopped = "" if found.complete else " (stopped there)"
    yield f"  backlog delivered        {found.readings:>15,} in {found.seconds:.0f} s{stopped}"
    yield f"  a second                 {found.rate:>15,.0f} readings ({found.rate / RATE:.0f} x the nominal rate)"
    yield f"  so 72 h take             {72 * RATE / max(found.rate, 1):>15.2f} h"
    quantiles = f"{delay['p50']:.3f} {delay['p99']:.3f} {delay['max']:.3f}"
    yield f"  live delay p50, p99, max {quantiles:>15} s of {delay['count']:,} readings"
    yield f"  its bound                {DELAY_BOUND_S:>15.2f} s (batch time and 2 commits)"
    yield f"  processor, memory        {found.cpu:>15.2f} cores, {found.rss / 1e6:.0f} MB at most"
    yield f"  distinct, twice          {received['distinct']:>15,} {received['duplicates']:,}"
    yield f"  difference of the account {found.difference:>14,.0f}"


def broken(found: Drained) -> list[str]:
    """Which bounds the drain did not keep."""
    problems = []
    if found.rate < LEAST_RATE:
        problems.append(f"drained {found.rate:,.0f} readings/s, at least {LEAST_RATE:,} expected")
    if not found.delay["count"]:
        problems.append("no live reading came while the backlog drained: give it more hours")
    if found.delay["max"] > DELAY_BOUND_S:
        problems.append(f"a live reading took {found.delay['max']:.2f} s, at most {DELAY_BOUND_S:.2f} expected")
    if found.difference or found.received["unreadable"]:
        problems.append("the account does not add up")
    problems += [
        f"{device}: {received:,} of the offsets {first} to {end - 1} came"
        for device, (first, end, received) in found.received["by_device"].items()
        if found.complete and received != end - first
    ]
    return problems


async def main(arguments: argparse.Namespace) -> int:
    """Run everything that was asked for; 0 when every bound was kept."""
    problems: list[str] = []
    with contextlib.ExitStack() as stack:
        name = arguments.log or stack.enter_context(tempfile.TemporaryDirectory(prefix="outage-", dir=arguments.folder))
        folder = Path(name)
        if arguments.budget:
            (folder / "small").mkdir()
            small = await fill_with_budget(
                folder / "small" / "log", arguments.budget_hours, arguments.commit, arguments.budget
            )
            _say(budget_lines(arguments.budget_hours, small))
            if not small.exact or small.highest > small.budget or not small.dropped:
                problems.append("the budget was not kept, or not counted")
        if not (folder / "log").exists():
            filled = await fill_log(folder / "log", arguments.hours, arguments.commit)
            _say(fill_lines(arguments.hours, arguments.commit, filled))
        made = await asyncio.to_thread(make_blocks, folder / "log", arguments.blocks_s)
        _say(block_lines(made))
        drained = await drain(folder, round(arguments.hours * 3600) * RATE, arguments.drain_s)
        _say(drain_lines(drained))
        problems += broken(drained)
    print("\n".join(problems) if problems else "every bound was kept")
    return int(bool(problems))


def _say(lines: Iterator[str]) -> None:
    print("\n".join(lines), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=72, help="of the outage")
    parser.add_argument(
        "--commit", type=float, default=2.0, help="seconds between commits of the outage (2: eMMC, 0.2: SSD)"
    )
    parser.add_argument("--blocks-s", type=float, default=180, help="compact files for at most so long")
    parser.add_argument("--drain-s", type=float, default=300, help="drain for at most so long")
    parser.add_argument("--budget", type=int, default=20_000_000, help="bytes of the small log; 0: leave it out")
    parser.add_argument("--budget-hours", type=float, default=6, help="that are written into the small log")
    parser.add_argument(
        "--log", help="an empty folder, where the filled log stays, or one that an earlier run has filled"
    )
    parser.add_argument("--folder", default=os.environ.get("TMPDIR", "/tmp"), help="where there is room")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(_arguments())))
