"""What was measured, as a table for people."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import CORES, find_program

Data = dict[str, Any]
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


def table(results: Data) -> str:
    """The whole report."""
    lines = ["", "machine"]
    lines += [f"  {key:<14} {value}" for key, value in results["machine"].items()]
    if CORES.measured == CORES.load:
        lines.append("  One core only: load and gateway share it, so the rates say little.")
    if "stages" in results:
        lines += ["", f"{'stage':<40} {'us/value':>9} {'bytes/value':>12}"]
        lines += [
            f"{name:<40} {stage['us']:>9.4f} {stage.get('bytes', ''):>12{'.2f' if 'bytes' in stage else ''}}"
            for name, stage in results["stages"].items()
        ]
    lines += _rates(results) + _sizes(results) + _idle(results) + _delay(results) + _ratios(results)
    return "\n".join(lines)


def _rates(results: Data) -> list[str]:
    rows = [(name, data) for name, data in results.items() if isinstance(data, dict) and "steps" in data]
    if not rows:
        return []
    lines = [
        "",
        f"{'end to end, highest rate kept up with':<38} {'per s':>10} {'core':>6} {'others':>6} {'us/value':>9} "
        f"{'load':>5} {'RSS MB':>7} {'p50 ms':>7} {'p99 ms':>7} {'limit':>22}",
    ]
    for name, data in rows:
        top, last = data["best"], data["steps"][-1]
        if top is None:
            lines.append(f"{name:<38} none: {_limit(last)}")
            continue
        delay = top["delay_ms"]
        lines.append(
            f"{name:<38} {top['delivered']:>10,.0f} {top['cpu_share']:>6.0%} {top['others_share']:>6.0%} "
            f"{top['cpu_us']:>9.3f} {top['load_cpu_share']:>5.0%} {top['rss_mb']:>7.0f} {delay.get('p50', 0):>7.0f} "
            f"{delay.get('p99', 0):>7.0f} {_limit(last):>22}"
        )
        if account := data.get("account"):
            lost = account["dropped_by_server"] + account["never_came"]
            lines.append(
                f"    all steps: {account['delivered']:,} of {account['generated']:,} values, {lost:,} lost in the "
                f"step that failed, {account['duplicates']:,} duplicates, {account['wrong']:,} wrong of "
                f"{account['checked']:,} checked"
            )
    return lines


def _limit(last: Data) -> str:
    if last["keeps_up"]:
        return "no limit found"
    reached = f"{last['delivered']:,.0f} of {last['offered']:,.0f}"
    return f"{reached}, {last['cpu_share']:.0%}"


def _sizes(results: Data) -> list[str]:
    rows = [(name, data["bytes"]) for name, data in results.items() if isinstance(data, dict) and data.get("bytes")]
    if not rows:
        return []
    lines = ["", f"{'bytes per value':<38} {'on the wire':>12} {'in the log':>12} {'written to disk':>16}"]
    lines += [f"{name:<38} {size['wire']:>12.1f} {size['log']:>12.2f} {size['written']:>16.2f}" for name, size in rows]
    return lines


def _idle(results: Data) -> list[str]:
    rows = results.get("idle", [])
    if not rows:
        return []
    lines = [
        "",
        f"{'all points at 1 s, json':<38} {'RSS MB':>8} {'core':>6} {'all points after':>17} {'written B/value':>20} "
        f"{'GB/day':>7}",
    ]
    lines += [
        f"{row['protocol'] + ', ' + format(row['points'], ',') + ' points':<38} {row['rss_mb']:>8.0f} "
        f"{row['cpu_share']:>6.1%} {row['all_points_s']:>15.1f} s {row['written_per_reading']:>20.1f} "
        f"{row['written_gb_per_day']:>7.2f}"
        for row in rows
    ]
    return lines


def _delay(results: Data) -> list[str]:
    if "delay" not in results:
        return []
    row = results["delay"]
    delay = row["delay_ms"]
    return [
        "",
        f"delay at {row['delivered']:,.0f} values/s, batching off, commit 50 ms: p50 {delay['p50']:.0f} ms, "
        f"p99 {delay['p99']:.0f} ms, most {delay['max']:.0f} ms",
    ]


def _ratios(results: Data) -> list[str]:
    lines = []
    for ours, theirs in (
        ("opcua columns", "opcua script"),
        ("opcua json", "opcua script"),
        ("modbus columns", "modbus script"),
    ):
        if ours in results and theirs in results:
            a, b = results[ours]["best"], results[theirs]["best"]
            if a and b:
                lines.append(
                    f"  {ours:<20} {a['delivered'] / b['delivered']:>6.1f} x the rate, "
                    f"1/{b['cpu_us'] / a['cpu_us']:.1f} of the CPU per value"
                )
    return ["", "against the plain script (nothing durable, no identifiers, no account)", *lines] if lines else []


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
