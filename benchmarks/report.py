"""What was measured: a table for the terminal, Markdown for the page, JSON for programs."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.rig.outcome import Data, Figure, Outcome
from benchmarks.rig.processes import CORES, find_program

TOOK: Final = "took_s"
"""the detail of an outcome that says how long it took"""
PACKAGES = ("edge-gateway", "asyncua", "pymodbus", "paho-mqtt", "numpy", "orjson", "zstandard", "uvloop")


def machine() -> Data:
    """What the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _read("/proc/meminfo") if line.startswith("MemTotal")), 0)
    broker = subprocess.run([find_program("mosquitto"), "-h"], capture_output=True, text=True, check=False).stdout
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "gateway_core": CORES.measured,
        "load_core": CORES.load,
        "memory_gb": round(memory / 1e6, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": broker.splitlines()[0] if broker else "unknown",
        "load_average": os.getloadavg()[0],
        **{package: version(package) for package in PACKAGES},
    }


class Peer(NamedTuple):
    """Two workloads that do the same work, and by how much ours has to be better."""

    ours: str
    theirs: str
    rate_bar: float | None
    cpu_bar: float | None


PEERS: Final = (
    Peer("B1 columns", "script opcua", 17, 25),
    Peer("B1 columns", "thingsboard opcua", 50, None),
    Peer("B1 columns", "node-red opcua", 20, None),
    Peer("B4 columns", "script modbus", None, 2),
    Peer("B4 columns", "thingsboard modbus", None, None),
    Peer("B4 columns", "node-red modbus", None, None),
)


class Row(NamedTuple):
    """One figure of all runs of a workload."""

    workload: str
    figure: Figure
    """of the first run: name, unit, bar"""
    median: float
    lowest: float
    highest: float
    runs: int

    @property
    def met(self) -> bool:
        """Whether the median meets the bar."""
        return self.figure.met(self.median)


def rows(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Row]:
    """Median and range of every figure, and the ratios between workloads of the same round."""
    found = []
    for workload, runs in outcomes.items():
        for figure in runs[0].figures if runs else ():
            values = [one.value for run in runs for one in run.figures if one.name == figure.name]
            found.append(Row(workload, figure, median(values), min(values), max(values), len(values)))
    for peer in PEERS:
        found += ratios(peer, outcomes.get(peer.ours, ()), outcomes.get(peer.theirs, ()))
    return found


def ratios(peer: Peer, ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> list[Row]:
    """Round by round, because machines drift: how many times the rate of a peer, at what part of its CPU per value."""
    found = []
    for name, name_of_ratio, bar, up in (
        ("highest rate kept up with", "times their rate", peer.rate_bar, True),
        ("CPU per value", "their CPU per value in ours", peer.cpu_bar, False),
    ):
        pairs = [(value_of(a, name), value_of(b, name)) for a, b in zip(ours, theirs, strict=False)]
        values = [(a / b if up else b / a) for a, b in pairs if a and b]
        if values:
            figure = Figure(name_of_ratio, values[0], "x", bar)
            shown = f"{peer.ours} / {peer.theirs}"
            found.append(Row(shown, figure, median(values), min(values), max(values), len(values)))
    return found


def value_of(outcome: Outcome, name: str) -> float | None:
    """The figure of that name, if the run has it."""
    return next((figure.value for figure in outcome.figures if figure.name == name), None)


def terminal(found: Sequence[Row]) -> str:
    """The figures for a terminal; a missed bar is marked."""
    lines = [f"{'workload':<26} {'figure':<46} {'median':>14} {'lowest':>14} {'highest':>14} {'bar':>14}"]
    last = ""
    for row in found:
        name = "" if row.workload == last else row.workload
        last = row.workload
        mark = "" if row.met else "  MISSED"
        figure = f"{row.figure.name}, {row.figure.unit}"
        lines.append(
            f"{name:<26} {figure:<46} {number(row.median):>14} {number(row.lowest):>14} {number(row.highest):>14} "
            f"{bar(row.figure):>14}{mark}"
        )
    return "\n".join(lines)


def markdown(machine: Data, moment: str, found: Sequence[Row], seconds: float) -> str:
    """The same as a page."""
    lines = [f"Measured {moment}; each rate held for {seconds:g} s.", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in machine.items()]
    lines += ["", "| workload | figure | median | range | runs | bar | |", "|---|---|--:|--:|--:|--:|---|"]
    for row in found:
        verdict = "" if row.figure.bar is None else ("met" if row.met else "**missed**")
        lines.append(
            f"| {row.workload} | {row.figure.name}, {row.figure.unit} | {number(row.median)} | "
            f"{number(row.lowest)} to {number(row.highest)} | {row.runs} | {bar(row.figure)} | {verdict} |"
        )
    return "\n".join([*lines, ""])


def durations(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """How long each workload took, all its runs together, as the end of the page."""
    took = {name: sum(run.details.get(TOOK, 0.0) for run in runs) for name, runs in outcomes.items()}
    each = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items())
    return f"\nIt took {sum(took.values()) / 60:.1f} minutes: {each}.\n"


def outcomes_of(found: Data) -> dict[str, list[Outcome]]:
    """The outcomes in what `plain` gave."""
    return {
        name: [
            Outcome(
                [Figure(**figure) for figure in run["figures"]],
                {key: value for key, value in run.items() if key != "figures"},
            )
            for run in runs
        ]
        for name, runs in found["workloads"].items()
    }


def plain(machine: Data, moment: str, outcomes: Mapping[str, Sequence[Outcome]], seconds: float, repeat: int) -> Data:
    """Everything, for programs; each rate was held for `seconds`, each workload run `repeat` times unless stopped."""
    return {
        "machine": machine,
        "time": moment,
        "seconds": seconds,
        "repeat": repeat,
        "workloads": {
            name: [{"figures": [figure._asdict() for figure in run.figures], **run.details} for run in runs]
            for name, runs in outcomes.items()
        },
    }


def number(value: float) -> str:
    """Three digits that count, or whole thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bar(figure: Figure) -> str:
    """At least or at most so much, or nothing."""
    if figure.bar is None:
        return ""
    return f"{'>=' if figure.at_least else '<='} {number(figure.bar)}"


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
