"""Memory and CPU at one reading per point and second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.rig.gateway_config import Delivery, write_modbus, write_opcua
from benchmarks.rig.loads import modbus_devices, opcua_server
from benchmarks.rig.measure import start_gateway
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench, Child

POINTS: Final = 10_000
IDLE_SETTLE_S: Final = 3.0
"""catalogues and first commits are not what idling costs"""
HELD: Final = 3
"""so many times the seconds of a rate: little CPU needs longer"""
DELIVERY: Final = Delivery(format="json", max_wait="1s")


def opcua(seconds: float) -> Outcome:
    """10,000 monitored items."""
    with Bench() as bench:
        load, port = opcua_server(bench, POINTS, rate=1.0)
        return _idle(bench, load, "double", lambda folder: write_opcua(folder, port, POINTS, "500ms"), seconds)


def modbus(seconds: float) -> Outcome:
    """20,000 registers."""
    with Bench() as bench:
        load, ports = modbus_devices(bench, 1)
        return _idle(bench, load, "modbus", lambda folder: write_modbus(folder, ports, POINTS, "1s"), seconds)


def _idle(bench: Bench, load: Child, values: str, devices: Callable[[Path], None], seconds: float) -> Outcome:
    start = time.monotonic()
    system = start_gateway(bench, DELIVERY, values, load, devices)
    system.wait_for_points(POINTS)
    first = time.monotonic() - start
    time.sleep(IDLE_SETTLE_S)
    before, moment = system.measured.usage(), time.monotonic()
    time.sleep(HELD * seconds)
    after = system.measured.usage()
    elapsed = time.monotonic() - moment
    written = (after.written - before.written) / elapsed
    figures = [
        Figure("CPU", (after.cpu_s - before.cpu_s) / elapsed * 100, "% of a core"),
        Figure("RSS", after.rss / 1e6, "MB", 150, at_least=False),
        Figure("all points arrived after", first, "s"),
        Figure("written", written / POINTS, "bytes/reading"),
    ]
    return Outcome(figures, {"points": POINTS, "seconds": elapsed})
