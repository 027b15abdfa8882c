"""Modbus: the highest rate of registers, equal devices polled faster and faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

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

    steps, _ = _poll(run, SCRIPT_PERIODS_S, seconds)
    return Outcome(rate_figures(steps, "registers/s", None), summary(steps))


def _gateway(delivery: Delivery, seconds: float, bar: float | None) -> Outcome:
    def run(bench: Bench, every_s: float) -> System:
        load, ports = modbus_devices(bench, DEVICES)
        return start_gateway(
            bench, delivery, "modbus", load, lambda folder: write_modbus(folder, ports, POINTS, f"{every_s * 1e3:g}ms")
        )

    steps, sizes = _poll(run, PERIODS_S, seconds)
    return Outcome(rate_figures(steps, "registers/s", bar) + sizes, summary(steps))


def _poll(
    run: Callable[[Bench, float], System], periods_s: Sequence[float], seconds: float
) -> tuple[list[Step], list[Figure]]:
    """Shorter and shorter periods until one is not kept."""
    steps: list[Step] = []
    sizes: list[Figure] = []
    for period_s in periods_s:
        with Bench() as bench:
            system = run(bench, period_s)
            system.wait_for_points(DEVICES * POINTS)
            offered = 2 * DEVICES * POINTS / period_s
            time.sleep(POLL_SETTLE_S)
            steps.append(system.step(offered, seconds, "registers"))
            sizes = size_figures(system)
        progress(steps[-1].line("registers/s"))
        if not steps[-1].keeps_up:
            break
    return steps, sizes
