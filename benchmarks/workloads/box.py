"""B9: the box that people buy. 1,000 points, each once a second, in one core and 1 GB, its log on an eMMC.

Five Modbus devices of 100 float32 and one OPC UA server of 500 doubles; JSON, the default batch and commit. CPU,
memory and bytes written are taken from one emptying of the log's ring to another, because the ring goes into the data
file only every minute or two (docs/log-wear.md). `wire` is the same with the settings for a thin link.

What is written depends on the values. The bar is for a plant's: of twenty points 14 are transmitters of 12 to 16 bits
with drift and noise, scaled and not rounded (of the doubles half are rounded to the instrument's digits), 3 are
constant, 2 are totalisers, 1 is a state, and all are sent each second whether they have changed or not; see
`benchmarks.load.measured`. `noise` and `wire_noise` are the same with the values of the other workloads, of which every
bit is noise: the most that so many floats can take.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import adapters
import gateway
from benchmarks.rig.gateway_config import Delivery, write_gateway, write_modbus, write_opcua
from benchmarks.rig.launch import gateway_process
from benchmarks.rig.loads import modbus_devices, opcua_server
from benchmarks.rig.measure import READY_S, progress
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import CORES, Bench, BenchmarkError, Child, core_busy_s, environment, free_port
from benchmarks.rig.small_box import SmallBox, small_box

MODBUS_DEVICES: Final = 5
MODBUS_POINTS: Final = 100
OPCUA_POINTS: Final = 500
RATE: Final = MODBUS_DEVICES * MODBUS_POINTS + OPCUA_POINTS
SETTLE_S: Final = 5.0
LEAST_S: Final = 30.0
MOST_S: Final = 200.0
"""from one emptying of the ring to the next: about 130 s, with noise half of it"""
DAY_S: Final = 86_400
MONTH_S: Final = 30 * DAY_S
LOOK_S: Final = 0.5
THIN: Final = Delivery(format="columns", compression="zstd", max_wait="30s", max_bytes="1MB")
WIRE_S: Final = 60.0
_DEPENDENCIES: Final = "import gateway.commands.run, adapters.opcua.adapter, adapters.modbus"


class Values(NamedTuple):
    """What the points show; the names are those of `--type` and `--values`."""

    opcua: str
    modbus: str


MEASURED: Final = Values("measured", "modbus-measured")
NOISE: Final = Values("double", "modbus-apart")


def run(_: float) -> Outcome:
    """CPU, memory, time to the first reading, bytes written in a day."""
    return _box(MEASURED)


def noise(_: float) -> Outcome:
    """The same with noise; told only."""
    outcome = _box(NOISE)
    figures = [one if one.name == "wrong" else one._replace(bar=None) for one in outcome.figures]
    return outcome._replace(figures=figures)


def _box(values: Values) -> Outcome:
    _compile()
    with Bench() as bench, small_box(bench.folder) as box:
        broker, receiver = _ends(bench, values)
        config = _write(bench, Delivery(format="json", max_wait="1s"), bench.broker_port, values)
        measured, first_s = _start(bench, box, config, receiver)
        steady = _steady(measured, config / "log", box)
        measured.end()
        again_s = _start(bench, box, config, receiver)[1]
        seen = receiver.ask("stats")
        bad = seen["unreadable"] + sum(group["wrong"] for group in seen["groups"].values())
        figures = [
            Figure("CPU", steady["cpu_s"] / steady["s"] * 100, "% of a core", 3, at_least=False),
            Figure("RSS", steady["rss"] / 1e6, "MB", 110, at_least=False),
            Figure("RSS, the most seen", steady["most_rss"] / 1e6, "MB"),
            Figure("first reading at the broker after start", first_s, "s", 3, at_least=False),
            Figure("first reading at the broker after a restart", again_s, "s", 3, at_least=False),
            Figure("written a day", steady["written"] / steady["s"] * DAY_S / 1e6, "MB", 1_000, at_least=False),
            Figure("wrong", bad, "readings", 0, at_least=False),
        ]
        details = {"memory": box.memory, "storage": box.storage, **steady, "broker_cpu_s": broker.usage().cpu_s}
        return Outcome(figures, {**details, "received": seen})


def wire(_: float) -> Outcome:
    """MB in a month with `columns`, zstd and a message of each device every 30 s."""
    return _wire(MEASURED)


def wire_noise(_: float) -> Outcome:
    """The same with noise, which nothing compresses."""
    return _wire(NOISE)


def _wire(values: Values) -> Outcome:
    _compile()
    with Bench() as bench, small_box(bench.folder) as box:
        receiver = _ends(bench, values)[1]
        link = bench.python("link", "load.link", "--to", bench.broker_port)
        config = _write(bench, THIN, int(link.ask()["port"]), values)
        _start(bench, box, config, receiver)
        carried, came = _look(link, receiver)
        time.sleep(WIRE_S)
        carried_then, came_then = _look(link, receiver)
        readings = came_then - came
        each = (carried_then["link_bytes"] - carried["link_bytes"]) / readings
        bare = (carried_then["up"] + carried_then["down"] - carried["up"] - carried["down"]) / readings
        figures = [
            Figure("on the wire", each * RATE * MONTH_S / 1e6, "MB/month"),
            Figure("on the wire, with headers", each, "bytes/reading"),
            Figure("on the wire, without headers", bare, "bytes/reading"),
        ]
        return Outcome(figures, {"readings": readings, "link": carried_then})


def _compile() -> None:
    """Compiled modules, as an installed package has them: otherwise the first start of all would make them, and keep
    tens of MB from it.
    """
    for package in (gateway, adapters):
        for folder in package.__path__:
            subprocess.run([sys.executable, "-m", "compileall", "-q", folder], env=environment(), check=True)
    subprocess.run([sys.executable, "-c", _DEPENDENCIES], env=environment(), check=True)


def _ends(bench: Bench, values: Values) -> tuple[Child, Child]:
    broker = bench.broker()
    shown = ["--values", f"load={values.opcua}", "--values", f"m={values.modbus}"]
    receiver = bench.python("receiver", "receive.lanes", "--port", bench.broker_port, *shown)
    receiver.ask()
    return broker, receiver


def _write(bench: Bench, delivery: Delivery, broker_port: int, values: Values) -> Path:
    """Start what is to be read, and write the config."""
    _, port = opcua_server(bench, OPCUA_POINTS, values.opcua, rate=1.0)
    _, ports = modbus_devices(bench, MODBUS_DEVICES, apart=True, measured=values is MEASURED, name="registers")
    config = bench.folder / "config"
    write_gateway(config, delivery, broker_port, free_port())
    write_opcua(config, port, OPCUA_POINTS, "1s")
    write_modbus(config, ports, MODBUS_POINTS, "1s")
    return config


def _start(bench: Bench, box: SmallBox, config: Path, receiver: Child) -> tuple[Child, float]:
    """Start the gateway; seconds until the first new reading is at the broker's subscriber."""
    _wait_until_quiet(receiver)
    before = int(receiver.ask("mark")["distinct"])
    moment = time.monotonic()
    measured = gateway_process(bench, config, box.before)
    _wait(measured, lambda: receiver.ask("stats")["distinct"] > before)
    first = float(receiver.ask("marked"))
    _wait(measured, lambda: receiver.ask("stats")["distinct"] >= before + RATE)
    return measured, first - moment


def _wait_until_quiet(receiver: Child) -> None:
    """Nothing is on its way any more from a gateway that has ended."""
    last = -1
    while (now := receiver.ask("stats")["messages"]) != last:
        last = now
        time.sleep(LOOK_S)


def _wait(measured: Child, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        if not measured.running() or time.monotonic() > deadline:
            raise BenchmarkError(f"no readings come within {READY_S:g} s:\n{measured.log_tail()}")
        time.sleep(0.1)


def _steady(measured: Child, log: Path, box: SmallBox) -> dict[str, Any]:
    """From one emptying of the ring to another, at least `LEAST_S`."""
    time.sleep(SETTLE_S)
    if box.storage == "eMMC" and not (log / "ring").exists():
        raise BenchmarkError(f"the log in {log} has no ring: the gateway did not take its storage for flash")
    _until_emptied(measured, log, box)
    before, busy, moment = measured.usage(), core_busy_s(CORES.measured), time.monotonic()
    resident: list[int] = []
    while time.monotonic() - moment < LEAST_S:
        resident += _until_emptied(measured, log, box)
    after, now = measured.usage(), time.monotonic()
    cpu_s = after.cpu_s - before.cpu_s
    others = (core_busy_s(CORES.measured) - busy - cpu_s) / (now - moment)
    progress(f"  {now - moment:.0f} s from one emptying of the ring to another")
    return {
        "s": now - moment,
        "cpu_s": cpu_s,
        "rss": median(resident),
        "most_rss": max(resident),
        "written": after.written - before.written,
        "others_share": max(0.0, others),
    }


def _until_emptied(measured: Child, log: Path, box: SmallBox) -> list[int]:
    """Until the data files have grown and stand still again; resident bytes of the process, look by look.

    Without a ring they grow all the time, and any moment is as good as another. Raises BenchmarkError.
    """
    deadline = time.monotonic() + (MOST_S if box.storage == "eMMC" else LEAST_S)
    size, grown = _data_bytes(log), False
    resident = []
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        resident.append(measured.usage().rss)
        now = _data_bytes(log)
        if grown and now == size:
            return resident
        grown, size = grown or now != size, now
    if box.storage == "eMMC":
        raise BenchmarkError(f"the ring was not emptied within {MOST_S:g} s: what is written in a day is not known")
    return resident


def _data_bytes(log: Path) -> int:
    return sum(path.stat().st_size for path in log.glob("data-*"))


def _look(link: Child, receiver: Child) -> tuple[dict[str, Any], int]:
    return link.ask("stats"), int(receiver.ask("stats")["distinct"])
