"""Many Modbus devices at one poll a second, each on a connection of its own: what batches and devices cost."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Final

from benchmarks.rig.gateway_config import Delivery, write_modbus
from benchmarks.rig.loads import modbus_devices
from benchmarks.rig.measure import READY_S, System, progress, start_gateway
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench, BenchmarkError

PERIOD_S: Final = 1.0
WARM_S: Final = 3.0
"""catalogues and first commits are not what polling costs"""
HELD: Final = 3
"""so many times the seconds of a rate: a period is long"""


def hundred(seconds: float) -> Outcome:
    """B4: 100 devices of 1,000 registers."""
    return _steady(100, 500, Delivery(), seconds, None)


def thousand(seconds: float) -> Outcome:
    """B5: 1,000 devices of 10 points, delivered as a gateway does without being told otherwise, in columns."""
    return _steady(1000, 10, Delivery(max_wait="1s"), seconds, 15)


def thousand_json(seconds: float) -> Outcome:
    """B5 in JSON."""
    return _steady(1000, 10, Delivery(format="json", max_wait="1s"), seconds, None)


def _steady(devices: int, points: int, delivery: Delivery, seconds: float, cpu_bar: float | None) -> Outcome:
    offered = 2 * devices * points / PERIOD_S
    with Bench() as bench:
        load, ports = modbus_devices(bench, devices, apart=True)
        system = start_gateway(
            bench, delivery, "modbus-apart", load, lambda folder: write_modbus(folder, ports, points, f"{PERIOD_S:g}s")
        )
        first = _wait_for_devices(system, devices)
        time.sleep(WARM_S)
        load.ask("restart")
        step = system.step(offered, HELD * seconds, "registers")
        cadence = load.ask(f"cadence {PERIOD_S}")
        messages = system.receiver.ask("stats")
    progress(step.line("registers/s"))
    return Outcome(
        [
            Figure("CPU", step.cpu_share * 100, "% of the core", cpu_bar, at_least=False),
            Figure("RSS", step.rss_mb, "MB"),
            Figure("registers", step.delivered, "registers/s"),
            # below zero where what was still on its way before the step came during it
            Figure("lost", max(0, step.lost), "readings", 0, at_least=False),
            Figure("missed cycles", cadence["missed"], "cycles", 0, at_least=False),
            Figure("kept up with", float(step.keeps_up), "1 = yes", 1),
            Figure("all points arrived after", first, "s"),
            Figure("delay p50", step.delay_ms.get("p50", 0.0), "ms"),
            Figure("delay p99", step.delay_ms.get("p99", 0.0), "ms"),
        ],
        {"devices": devices, "points": points, "step": asdict(step), "cadence": cadence, "receiver": messages},
    )


def _wait_for_devices(system: System, devices: int) -> float:
    """Until something of each has come, s: a device offers all its points together."""
    start = time.monotonic()
    while (got := system.receiver.ask("stats"))["series"] < devices:
        if time.monotonic() - start > READY_S or not system.measured.running():
            raise BenchmarkError(f"{got['series']} of {devices} devices arrived:\n{system.measured.log_tail()}")
        time.sleep(0.1)
    return time.monotonic() - start
