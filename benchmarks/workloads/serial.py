"""Modbus RTU on one line: how near the gateway comes to what the wire allows.

All stations are asked as often as the line bears, so the cycle is as short as it can be. The least that a cycle can
take follows from the lengths of its frames: 11 bits a character, request and reply, and 3.5 characters of silence
behind each of them, see `benchmarks.load.serial_line`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.rig.gateway_config import Delivery
from benchmarks.rig.measure import progress, start_gateway
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench

BAUD: Final = 19_200
EVERY: Final = "100ms"
"""shorter than any cycle of the line"""
HELD: Final = 4
"""so many times the seconds of a rate: a cycle takes almost one"""
BAR: Final = 1.05
"""the bar of the issue: within 5 % of the wire limit"""


class Station(NamedTuple):
    """What a kind of station has."""

    requests: int
    floats: int
    """read by each request"""

    @property
    def registers(self) -> int:
        """Read by each request."""
        return 2 * self.floats


STATIONS: Final = (*[Station(2, 62)] * 2, *[Station(1, 10)] * 8)
"""two meters of 248 registers, read by the longest requests that floats allow, and eight small devices of 20"""
_DEVICE: Final = """\
device: m{station}
adapter: modbus
connection: {{url: "serial://{path}?baud={baud}&parity=E", station: {station}}}
load: {{max_registers: {registers}}}
every: {every}
points:
"""


def line(seconds: float) -> Outcome:
    """B4: ten stations at 19,200 baud."""
    with Bench() as bench:
        load = bench.python("load", "load.serial_line", "--stations", len(STATIONS), "--baud", BAUD)
        path = load.ask()["path"]
        system = start_gateway(bench, Delivery(), "modbus-apart", load, lambda folder: _write(folder, path))
        system.wait_for_points(sum(station.requests * station.floats for station in STATIONS))
        load.ask("restart")
        step = system.step(0.0, HELD * seconds, "registers")
        account = load.ask("exchanges")
        stats = load.ask("stats")
    figures = [
        *ratios(account["sizes"]),
        Figure("registers", step.sent, "registers/s"),
        Figure("asked before the line was silent", stats["hurried"] + stats["strange"], "requests", 0, at_least=False),
        Figure("lost", step.lost, "readings", 0, at_least=False),
        Figure("CPU", step.cpu_share * 100, "% of the core"),
    ]
    progress(f"  {figures[0].value:.4f} of the wire's least, {step.sent:,.0f} registers/s")
    exchanges = sum(size["exchanges"] for size in account["sizes"].values())
    return Outcome(
        figures,
        {
            "baud": BAUD,
            "bits_per_character": 11,
            **account,
            "hurried_by_ms": stats["hurried_by_s"] * 1e3,
            "late_of_simulator_ms": stats["late_s"] / max(exchanges, 1) * 1e3,
            "step": asdict(step),
        },
    )


def ratios(sizes: dict[str, dict[str, Any]]) -> list[Figure]:
    """What the exchanges took by the least that they can take: of the whole line, and of each size of reply."""
    took = sum(size["took_s"] for size in sizes.values())
    least = sum(size["least_s"] for size in sizes.values())
    whole = Figure("cycle by the wire's least", took / max(least, 1e-9), "x", BAR, at_least=False)
    return [
        whole,
        *[
            Figure(f"of {name} registers", size["took_s"] / size["least_s"], "x")
            for name, size in sizes.items()
            if size["least_s"]
        ],
    ]


def _write(folder: Path, path: str) -> None:
    for number, station in enumerate(STATIONS, 1):
        text = _DEVICE.format(station=number, path=path, baud=BAUD, registers=station.registers, every=EVERY)
        points = range(station.requests * station.floats)
        lines = [f"  - {{point: p{k}, address: holding {2 * k}, type: float32}}\n" for k in points]
        (folder / "devices" / f"m{number}.yaml").write_text(text + "".join(lines))
