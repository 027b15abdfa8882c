"""Modbus: the highest rate of registers, equal devices polled faster and faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.rig.gateway_config import Delivery, write_modbus
from benchmarks.rig.loads import modbus_devices
from benchmarks.rig.measure import (
    Step,
    System,
    progress,
    rate_figures,
    size_figures,
    start_gateway,
    start_script,
    summary,
)
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench

POLL_SETTLE_S: Final = 1.0
"""the first polls of all devices come at once"""
PERIODS_S: Final = (0.25, 0.125, 0.1, 0.08, 0.0625, 0.05)
SCRIPT_PERIODS_S: Final = (0.5, 0.25, 0.125, 0.1)
DEVICES: Final = 10
POINTS: Final = 5_000
CONNECTIONS: Final = 4
"""to each device: its period is then not the sum of all its answers' times"""


class Polled(NamedTuple):
    """A period that was tried."""

    step: Step
    cadence: dict[str, Any]
    """see `benchmarks.load.cadence.Cadence.account`"""

    @property
    def cycles(self) -> int:
        """That there should have been, counted by request."""
        return int(self.cadence["cycles"] + self.cadence["missed"])

    @property
    def rate(self) -> float:
        """Registers/s that were read: exactly what the period says, but for cycles that were missed.

        What arrives within some seconds differs from it by a batch at either end.
        """
        return self.step.offered * int(self.cadence["cycles"]) / max(self.cycles, 1)


def columns(seconds: float) -> Outcome:
    """B4: ten devices of 10,000 registers."""
    return _gateway(Delivery(), seconds, 1_000_000)


def json(seconds: float) -> Outcome:
    """B4 in JSON."""
    return _gateway(Delivery(format="json"), seconds, None)


def script(seconds: float) -> Outcome:
    """B4 with the plain script."""

    def run(bench: Bench, every_s: float) -> System:
        load, ports = modbus_devices(bench, DEVICES)
        text = ",".join(map(str, ports))
        return start_script(bench, "modbus", load, "modbus", "--ports", text, "--points", POINTS, "--every", every_s)

    polled, _ = _poll(run, SCRIPT_PERIODS_S, seconds)
    steps = [one.step for one in polled]
    return Outcome(rate_figures(steps, "registers/s", None), summary(steps))


def _gateway(delivery: Delivery, seconds: float, bar: float | None) -> Outcome:
    def run(bench: Bench, every_s: float) -> System:
        load, ports = modbus_devices(bench, DEVICES, apart=True)
        return start_gateway(
            bench,
            delivery,
            "modbus-apart",
            load,
            lambda folder: write_modbus(folder, ports, POINTS, f"{every_s * 1e3:g}ms", CONNECTIONS),
        )

    polled, sizes = _poll(run, PERIODS_S, seconds)
    steps = [one.step for one in polled]
    kept = max((one for one in polled if one.step.keeps_up), key=lambda one: one.rate, default=None)
    figures = rate_figures(steps, "registers/s", None)
    figures[0] = Figure("highest rate kept up with", kept.rate if kept else 0.0, "registers/s", bar)
    if kept:
        figures.append(Figure("missed cycles", kept.cadence["missed"], "cycles"))
    details = {**summary(steps), "cadence": [one.cadence for one in polled]}
    return Outcome(figures + sizes, details)


def _poll(
    run: Callable[[Bench, float], System], periods_s: Sequence[float], seconds: float
) -> tuple[list[Polled], list[Figure]]:
    """Shorter and shorter periods until one is not kept."""
    polled: list[Polled] = []
    sizes: list[Figure] = []
    for period_s in periods_s:
        with Bench() as bench:
            system = run(bench, period_s)
            system.wait_for_points(DEVICES * POINTS)
            offered = 2 * DEVICES * POINTS / period_s
            time.sleep(POLL_SETTLE_S)
            system.load.ask("restart")
            step = system.step(offered, seconds, "registers")
            polled.append(Polled(step, system.load.ask(f"cadence {period_s}")))
            sizes = size_figures(system)
        progress(f"{step.line('registers/s')}, {polled[-1].cadence['missed']} cycles missed")
        if not step.keeps_up:
            break
    return polled, sizes
