"""B7: memory and CPU with 10,000 points that do not change; and with one reading of each per second."""

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
SETTLE_S: Final = 5.0
"""catalogues and first commits are not what idling costs"""
LEAST_S: Final = 20.0
"""little CPU needs longer"""
HELD: Final = 3
"""so many times the seconds of a rate, where points change"""
DELIVERY: Final = Delivery(format="json", max_wait="1s")
CPU_BAR: Final = 1.5
RSS_BAR_MB: Final = 150


def opcua(_: float) -> Outcome:
    """10,000 monitored items that do not change: nothing comes but keep-alives."""
    with Bench() as bench:
        load, port = opcua_server(bench, POINTS)
        return _watch(bench, load, "double", _subscribe(port), LEAST_S, CPU_BAR)


def modbus(_: float) -> Outcome:
    """20,000 registers that do not change, read every second all the same."""
    with Bench() as bench:
        load, ports = modbus_devices(bench, 1, still=True)
        return _watch(bench, load, "modbus", _poll(ports), LEAST_S, None)


def opcua_1s(seconds: float) -> Outcome:
    """10,000 monitored items that change every second."""
    with Bench() as bench:
        load, port = opcua_server(bench, POINTS, rate=1.0)
        return _watch(bench, load, "double", _subscribe(port), HELD * seconds, None)


def modbus_1s(seconds: float) -> Outcome:
    """20,000 registers that change, read every second."""
    with Bench() as bench:
        load, ports = modbus_devices(bench, 1)
        return _watch(bench, load, "modbus", _poll(ports), HELD * seconds, None)


def _subscribe(port: int) -> Callable[[Path], None]:
    return lambda folder: write_opcua(folder, port, POINTS, "500ms")


def _poll(ports: list[int]) -> Callable[[Path], None]:
    return lambda folder: write_modbus(folder, ports, POINTS, "1s")


def _watch(
    bench: Bench, load: Child, values: str, devices: Callable[[Path], None], seconds: float, cpu_bar: float | None
) -> Outcome:
    start = time.monotonic()
    system = start_gateway(bench, DELIVERY, values, load, devices)
    system.wait_for_points(POINTS)
    first = time.monotonic() - start
    time.sleep(SETTLE_S)
    readings, before, moment = system.receiver.ask("stats")["distinct"], system.measured.usage(), time.monotonic()
    time.sleep(seconds)
    readings = system.receiver.ask("stats")["distinct"] - readings
    after = system.measured.usage()
    elapsed = time.monotonic() - moment
    figures = [
        Figure("CPU", (after.cpu_s - before.cpu_s) / elapsed * 100, "% of a core", cpu_bar, at_least=False),
        Figure("RSS", after.rss / 1e6, "MB", RSS_BAR_MB, at_least=False),
        Figure("readings", readings / elapsed, "readings/s"),
        Figure("all points arrived after", first, "s"),
        Figure("written", (after.written - before.written) / elapsed / 1e3, "kB/s"),
    ]
    return Outcome(figures, {"points": POINTS, "seconds": elapsed})
