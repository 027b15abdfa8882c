"""Measure the gateway on this machine: `python -m benchmarks [--quick|--full] [--only NAME ...]`.

The gateway has one core for itself; load server, broker and receiver share another. Results are printed and written to
benchmarks/results/latest.json. Everything ends by itself, in about 5 minutes (--quick 3, --full 12).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import report, stages, workloads
from benchmarks.gateway_config import Delivery
from benchmarks.measure import progress
from benchmarks.processes import BenchmarkError

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
RATES: Final[dict[str, tuple[float, ...]]] = {
    "columns": workloads.COLUMNS_RATES,
    "json": workloads.JSON_RATES,
    "mix": workloads.MIX_RATES,
    "script": workloads.SCRIPT_RATES,
}
Workload = Callable[[], Any]


def plan(speed: str) -> dict[str, Workload]:
    """Name and work of everything that is measured."""
    seconds = {"quick": 2.0, "normal": 3.0, "full": 10.0}[speed]
    step = 2 if speed == "quick" else 1
    rates = {name: values[::step] for name, values in RATES.items()}
    periods = workloads.MODBUS_PERIODS[::step]
    columns, json_, zstd = Delivery(), Delivery(format="json"), Delivery(compression="zstd")
    points = (1_000, 10_000)
    chosen: dict[str, Workload] = {
        "stages": stages.measure,
        "opcua columns": lambda: workloads.opcua(columns, rates["columns"], seconds),
        "opcua json": lambda: workloads.opcua(json_, rates["json"], seconds),
        "opcua mix columns": lambda: workloads.opcua(columns, rates["mix"], seconds, "mix"),
        "opcua script": lambda: workloads.opcua_script(rates["script"], seconds),
        "modbus columns": lambda: workloads.modbus(columns, periods[1:], seconds),
        "modbus script": lambda: workloads.modbus_script(periods[:3], seconds),
        "idle": lambda: [
            workloads.idle(count, protocol, 2 * seconds) for protocol in ("opcua", "modbus") for count in points
        ],
        "delay": lambda: workloads.delay(seconds),
    }
    if speed == "full":
        chosen["opcua columns zstd"] = lambda: workloads.opcua(zstd, rates["columns"], seconds)
        chosen["opcua float columns"] = lambda: workloads.opcua(columns, rates["columns"], seconds, "float")
        chosen["modbus json"] = lambda: workloads.modbus(json_, periods, seconds)
    return chosen


def main() -> int:
    """Returns 1 when a workload could not be carried out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--quick", action="store_const", dest="speed", const="quick")
    speed.add_argument("--full", action="store_const", dest="speed", const="full")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="part of a workload's name")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    # SIGTERM ends the children too: they are ended on the way out of their `with`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results: dict[str, Any] = {"machine": report.machine(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    failed = False
    for name, work in plan(arguments.speed or "normal").items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        progress(name)
        try:
            results[name] = work()
        except BenchmarkError as error:
            failed = True
            progress(f"  failed: {error}")
    print(report.table(results))
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1))
    progress(f"\nwritten to {arguments.output}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
