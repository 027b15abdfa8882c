"""One system under load: start, step up the rate, compare what was sent with what arrived."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.rig.gateway_config import Delivery, write_gateway
from benchmarks.rig.launch import gateway_process
from benchmarks.rig.outcome import Figure
from benchmarks.rig.processes import CORES, Bench, BenchmarkError, Child, core_busy_s, free_port

READY_S: Final = 60.0
SETTLE_S: Final = 1.5
DRAIN_S: Final = 15.0
OFFERED: Final = 0.98
"""share of the offered rate that has to be made, else the load server or the device's polling fell behind"""
LAG_GROWTH_S: Final = 0.3
"""by so much may what is under way grow during a step: batches and commits make it uneven"""
LAG_S: Final = 1.5
"""and so old may it be: a system that falls behind by a fifth shows within 8 s"""

Stats = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, held for some seconds."""

    offered: float
    """values/s that the load was told to make"""
    sent: float
    """values/s that it made"""
    delivered: float
    """values/s that arrived"""
    lost: int
    """values that the load server had to throw away, that never came, or that came with a wrong value"""
    backlog: int
    """values that the load server still held at the end of the step"""
    cpu_share: float
    """of the measured core"""
    cpu_us: float
    """us of CPU per delivered value"""
    others_share: float
    """of the measured core, used by anything but the measured process: more than a few per cent spoil the figures"""
    load_cpu_share: float
    """of the other core: load server, broker, receiver"""
    load_server_share: float
    rss_mb: float
    delay_ms: dict[str, float]
    keeps_up: bool

    def line(self, unit: str) -> str:
        """For the person who waits."""
        return (
            f"  {self.delivered:>10,.0f} of {self.offered:>10,.0f} {unit}  {self.cpu_share:5.0%} of the core"
            f"  (others {self.others_share:.0%})"
        )


class System:
    """The measured process with its load, broker and receiver, within a `Bench`."""

    def __init__(self, bench: Bench, load: Child, measured: Child, receiver: Child, broker: Child) -> None:
        self.bench = bench
        self.load, self.measured, self.receiver, self.broker = load, measured, receiver, broker

    @staticmethod
    def not_watching(system: System, offered: float) -> AbstractContextManager[None]:
        """What `watching` is unless somebody wants to look on."""
        return nullcontext()

    watching: ClassVar[Callable[[System, float], AbstractContextManager[None]]] = not_watching
    """entered while a rate is held: see `benchmarks.profile`"""

    def step(self, offered: float, seconds: float, sent_key: str = "generated") -> Step:
        """Measure for `seconds` at a rate that is already set, after letting it settle."""
        time.sleep(SETTLE_S)
        self.receiver.ask("reset")
        busy0 = core_busy_s(CORES.measured)
        load0, got0, used0, other0 = self._look()
        with System.watching(self, offered):
            time.sleep(seconds)
        load1, got1, used1, other1 = self._look()
        busy1 = core_busy_s(CORES.measured)
        elapsed = got1["time"] - got0["time"]
        per_reading = 2 if sent_key == "registers" else 1
        sent = (load1[sent_key] - load0[sent_key]) / (load1["time"] - load0["time"])
        delivered = (got1["distinct"] - got0["distinct"]) * per_reading / elapsed
        lag0 = load0[sent_key] - got0["distinct"] * per_reading
        lag1 = load1[sent_key] - got1["distinct"] * per_reading
        lost = sum(
            after.get(key, 0) - before.get(key, 0)
            for before, after, keys in (
                (load0, load1, ("dropped",)),
                (got0, got1, ("missing", "wrong", "skipped", "unreadable")),
            )
            for key in keys
        )
        cpu = used1.cpu_s - used0.cpu_s
        backlog = int(load1.get("pending", 0))
        keeps_up = (
            lost == 0
            and sent >= OFFERED * offered
            and lag1 <= LAG_S * offered
            and lag1 - lag0 <= LAG_GROWTH_S * offered
        )
        return Step(
            offered=offered,
            sent=sent,
            delivered=delivered,
            lost=lost,
            backlog=backlog,
            cpu_share=cpu / elapsed,
            cpu_us=cpu / max(delivered * elapsed, 1) * 1e6,
            others_share=max(0.0, (busy1 - busy0 - cpu) / elapsed),
            load_cpu_share=(other1 - other0) / elapsed,
            load_server_share=(load1["cpu_s"] - load0["cpu_s"]) / elapsed,
            rss_mb=used1.rss / 1e6,
            delay_ms=got1["delay_ms"],
            keeps_up=keeps_up,
        )

    def wait_for_points(self, points: int) -> float:
        """Wait until a reading of every point has arrived; how long it took, s."""
        start = time.monotonic()
        while self.receiver.ask("stats")["distinct"] < points:
            if not self.measured.running():
                raise BenchmarkError(f"{self.measured.name} has ended:\n{self.measured.log_tail()}")
            if time.monotonic() - start > READY_S:
                raise BenchmarkError(
                    f"{self.measured.name}: {points} points did not arrive within {READY_S:.0f} s:\n"
                    f"{self.measured.log_tail()}\n{self.receiver.ask('stats')}\n{self.load.ask('stats')}"
                )
            time.sleep(0.1)
        return time.monotonic() - start

    def drain(self) -> Stats:
        """Stop an OPC UA load and wait until everything it made has arrived; the final account."""
        self.load.ask("rate 0")
        deadline = time.monotonic() + DRAIN_S
        while True:
            load, got = self.load.ask("stats"), self.receiver.ask("stats")
            expected = load["generated"] - load["dropped"]
            if got["distinct"] >= expected or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return {
            "generated": load["generated"],
            "dropped_by_server": load["dropped"],
            "delivered": got["distinct"],
            "never_came": expected - got["distinct"],
            **{key: got[key] for key in ("missing", "duplicates", "wrong", "checked", "skipped", "repeated")},
        }

    def _look(self) -> tuple[Stats, Stats, Any, float]:
        load, got, used = self.load.ask("stats"), self.receiver.ask("stats"), self.measured.usage()
        return load, got, used, load["cpu_s"] + got["cpu_s"] + self.broker.usage().cpu_s


def start_gateway(
    bench: Bench, delivery: Delivery, values: str, load: Child, devices: Callable[[Path], None]
) -> System:
    """Broker, receiver and a gateway whose device files `devices` writes into the config folder."""
    broker, receiver = start_ends(bench, values)
    config = bench.folder / "config"
    write_gateway(config, delivery, bench.broker_port, free_port())
    devices(config)
    return System(bench, load, gateway_process(bench, config), receiver, broker)


def start_script(bench: Bench, values: str, load: Child, *arguments: object) -> System:
    """Broker, receiver and a plain script."""
    broker, receiver = start_ends(bench, values)
    measured = bench.python(
        "script", "peers.plain_scripts", *arguments, "--broker-port", bench.broker_port, core=CORES.measured
    )
    measured.ask()
    return System(bench, load, measured, receiver, broker)


def start_ends(bench: Bench, values: str) -> tuple[Child, Child]:
    """Broker and receiver."""
    broker = bench.broker()
    receiver = bench.python("receiver", "receive.receiver", "--port", bench.broker_port, "--values", values)
    receiver.ask()
    return broker, receiver


def climb(
    system: System, rates: Sequence[float], items: int, seconds: float, values_per_tick: float = 1.0
) -> list[Step]:
    """Step up an OPC UA load until a rate is not kept up with."""
    steps = []
    for rate in rates:
        system.load.ask(f"rate {rate / (items * values_per_tick)}")
        steps.append(system.step(rate, seconds))
        progress(steps[-1].line("readings/s"))
        if not steps[-1].keeps_up:
            break
    return steps


def best(steps: Sequence[Step]) -> Step | None:
    """The highest rate that was kept up with."""
    return max((step for step in steps if step.keeps_up), key=lambda step: step.offered, default=None)


def summary(steps: Sequence[Step]) -> Stats:
    """Best step and all steps, as plain data."""
    top = best(steps)
    return {"best": asdict(top) if top else None, "steps": [asdict(step) for step in steps]}


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rate_figures(steps: Sequence[Step], unit: str, bar: float | None) -> list[Figure]:
    """The highest rate that was kept up with, and what it took."""
    top = best(steps)
    if top is None:
        return [Figure("highest rate kept up with", 0.0, unit, bar)]
    return [
        # More than was made arrives in a step where something of the step before is caught up with.
        Figure("highest rate kept up with", min(top.sent, top.delivered), unit, bar),
        Figure("CPU per value", top.cpu_us, "us"),
        Figure("CPU", top.cpu_share * 100, "% of the core"),
        Figure("RSS", top.rss_mb, "MB"),
        Figure("delay p50", top.delay_ms.get("p50", math.nan), "ms"),
        Figure("delay p99", top.delay_ms.get("p99", math.nan), "ms"),
    ]


def size_figures(system: System) -> list[Figure]:
    """Bytes per reading on the wire, in the log, and written to the device."""
    got = system.receiver.ask("stats")
    readings = max(got["readings"], 1)
    figures = [Figure("on the wire", got["bytes"] / readings, "bytes/reading")]
    if system.measured.name == "gateway":
        log = folder_bytes(system.bench.folder / "config" / "log")
        figures.append(Figure("in the log", log / readings, "bytes/reading"))
        figures.append(Figure("written", system.measured.usage().written / readings, "bytes/reading"))
    return figures


def progress(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)
