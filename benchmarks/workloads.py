"""The end-to-end workloads of `python -m benchmarks`. Each returns plain data for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.gateway_config import Delivery, write_modbus, write_opcua
from benchmarks.measure import (
    Step,
    System,
    climb,
    folder_bytes,
    progress,
    start_gateway,
    start_script,
    summary,
)
from benchmarks.processes import Bench, Child

ITEMS: Final = 10_000
MIX_SHARE: Final = 0.2
POLL_SETTLE_S: Final = 1.0
"""the first polls of all devices come at once"""
IDLE_SETTLE_S: Final = 3.0
"""catalogues and first commits are not what idling costs"""
SCRIPT_ITEMS: Final = 1_000

COLUMNS_RATES: Final = (500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000)
JSON_RATES: Final = (200_000, 400_000, 600_000, 800_000, 1_000_000)
MIX_RATES: Final = (100_000, 200_000, 250_000, 300_000, 500_000)
SCRIPT_RATES: Final = (10_000, 20_000, 25_000, 30_000, 40_000, 60_000)
MODBUS_PERIODS: Final = (("500ms", 0.5), ("250ms", 0.25), ("125ms", 0.125), ("100ms", 0.1), ("50ms", 0.05))
MODBUS_DEVICES: Final = 10
MODBUS_POINTS: Final = 5_000

Data = dict[str, Any]


def opcua_load(bench: Bench, items: int, type: str = "double", rate: float = 0.0) -> tuple[Child, int]:
    """A load server and its port."""
    load = bench.python("load", "opcua_load", "--items", items, "--type", type, "--rate", rate)
    return load, int(load.ask()["port"])


def modbus_load(bench: Bench, devices: int) -> tuple[Child, list[int]]:
    """Modbus devices and their ports."""
    load = bench.python("load", "modbus_load", "--devices", devices)
    return load, list(load.ask()["ports"])


def opcua(
    delivery: Delivery, rates: Sequence[float], seconds: float, type: str = "double", publishing: str = "100ms"
) -> Data:
    """The highest rate of OPC UA values that arrives without loss."""
    with Bench() as bench:
        load, port = opcua_load(bench, ITEMS, type)
        system = start_gateway(bench, delivery, type, load, lambda folder: write_opcua(folder, port, ITEMS, publishing))
        ready = system.wait_for_points(ITEMS)
        share = MIX_SHARE if type == "mix" else 1.0
        steps = climb(system, rates, ITEMS, seconds, share)
        account = system.drain()
        return {"ready_s": ready, **summary(steps), "account": account, "bytes": sizes(system)}


def opcua_script(rates: Sequence[float], seconds: float) -> Data:
    """The same with the plain script."""
    with Bench() as bench:
        load, port = opcua_load(bench, SCRIPT_ITEMS)
        system = start_script(
            bench, "double", load, "opcua", "--url", f"opc.tcp://127.0.0.1:{port}", "--points", SCRIPT_ITEMS
        )
        system.wait_for_points(SCRIPT_ITEMS)
        steps = climb(system, rates, SCRIPT_ITEMS, seconds)
        return {**summary(steps), "account": system.drain()}


def modbus(delivery: Delivery, periods: Sequence[tuple[str, float]], seconds: float) -> Data:
    """The highest rate of Modbus registers: equal devices, polled faster and faster."""

    def run(bench: Bench, every: str) -> System:
        load, ports = modbus_load(bench, MODBUS_DEVICES)
        return start_gateway(
            bench, delivery, "modbus", load, lambda folder: write_modbus(folder, ports, MODBUS_POINTS, every)
        )

    steps, size = _poll(run, periods, seconds)
    return {**summary(steps), "bytes": size}


def modbus_script(periods: Sequence[tuple[str, float]], seconds: float) -> Data:
    """The same with the plain script."""

    def run(bench: Bench, every: str) -> System:
        load, ports = modbus_load(bench, MODBUS_DEVICES)
        period = dict(MODBUS_PERIODS)[every]
        text = ",".join(map(str, ports))
        return start_script(
            bench, "modbus", load, "modbus", "--ports", text, "--points", MODBUS_POINTS, "--every", period
        )

    steps, _ = _poll(run, periods, seconds)
    return summary(steps)


def idle(points: int, protocol: str, seconds: float) -> Data:
    """Memory and CPU with all points at 1 s, and how long it took until every point had arrived."""
    with Bench() as bench:
        delivery = Delivery(format="json", max_wait="1s")
        if protocol == "opcua":
            load, port = opcua_load(bench, points, rate=1.0)
            devices: Callable[[Path], None] = lambda folder: write_opcua(folder, port, points, "500ms")  # noqa: E731
            values = "double"
        else:
            load, ports = modbus_load(bench, 1)
            devices = lambda folder: write_modbus(folder, ports, points, "1s")  # noqa: E731
            values = "modbus"
        start = time.monotonic()
        system = start_gateway(bench, delivery, values, load, devices)
        system.wait_for_points(points)
        first = time.monotonic() - start
        time.sleep(IDLE_SETTLE_S)
        before = system.measured.usage()
        written, moment = before.written, time.monotonic()
        time.sleep(seconds)
        after = system.measured.usage()
        elapsed = time.monotonic() - moment
        return {
            "points": points,
            "protocol": protocol,
            "rss_mb": after.rss / 1e6,
            "cpu_share": (after.cpu_s - before.cpu_s) / elapsed,
            "all_points_s": first,
            "written_per_reading": (after.written - written) / (points * elapsed),
            "written_gb_per_day": (after.written - written) / elapsed * 86_400 / 1e9,
        }


def delay(seconds: float) -> Data:
    """Delay that the gateway adds at 100,000 values/s: no batching time, commit every 50 ms."""
    with Bench() as bench:
        load, port = opcua_load(bench, ITEMS)
        delivery = Delivery(max_wait="1ms", commit="50ms")
        system = start_gateway(bench, delivery, "double", load, lambda folder: write_opcua(folder, port, ITEMS, "50ms"))
        system.wait_for_points(ITEMS)
        load.ask(f"rate {100_000 / ITEMS}")
        step = system.step(100_000, seconds)
        return {**asdict(step), "account": system.drain()}


def sizes(system: System) -> Data:
    """Bytes per reading on the wire, in the log, and written to the device."""
    got = system.receiver.ask("stats")
    readings = max(got["readings"], 1)
    return {
        "wire": got["bytes"] / readings,
        "log": folder_bytes(system.bench.folder / "config" / "log") / readings,
        "written": system.measured.usage().written / readings,
    }


def _poll(
    run: Callable[[Bench, str], System], periods: Sequence[tuple[str, float]], seconds: float
) -> tuple[list[Step], Data]:
    steps: list[Step] = []
    size: Data = {}
    for every, period in periods:
        with Bench() as bench:
            system = run(bench, every)
            system.wait_for_points(MODBUS_DEVICES * MODBUS_POINTS)
            offered = 2 * MODBUS_DEVICES * MODBUS_POINTS / period
            time.sleep(POLL_SETTLE_S)
            steps.append(system.step(offered, seconds, "registers"))
            if system.measured.name == "gateway":
                size = sizes(system)
        progress(
            f"  {steps[-1].delivered:>10,.0f} of {offered:>10,.0f} registers/s  {steps[-1].cpu_share:5.0%} of the core"
            f"  (others {steps[-1].others_share:.0%})"
        )
        if not steps[-1].keeps_up:
            break
    return steps, size
