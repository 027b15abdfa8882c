"""Measure the gateway on this machine: `python -m benchmarks [--full] [--only NAME ...] [--repeat N] [--seconds S]`.

The gateway has one core for itself; load servers, broker and receiver share another. Without options everything that
is short runs once, in about 5 minutes; --full runs everything five times. Results are printed, and written as JSON and
Markdown below benchmarks/results. Ends with 1 when a workload could not be carried out, with 2 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.plan import PLAN, Workload
from benchmarks.rig.measure import progress
from benchmarks.rig.outcome import Outcome
from benchmarks.rig.processes import BenchmarkError

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
SECONDS: Final = 3.0
FULL_SECONDS: Final = 5.0
FULL_REPEAT: Final = 5


def chosen(names: list[str], full: bool) -> list[Workload]:
    """What to run: by part of a name, or everything, or what is short."""
    if names:
        return [workload for workload in PLAN if any(name in workload.name for name in names)]
    return [workload for workload in PLAN if full or workload.short]


def carry_out(work: list[Workload], repeat: int, seconds: float) -> tuple[dict[str, list[Outcome]], bool]:
    """Run everything, `repeat` times in turn, so that a slow minute of the machine does not meet one of them alone.

    The outcomes by workload, and whether all could be carried out.
    """
    outcomes: dict[str, list[Outcome]] = {workload.name: [] for workload in work}
    whole = True
    for round in range(repeat):
        for workload in work:
            progress(f"{workload.name}  ({round + 1} of {repeat})")
            try:
                outcomes[workload.name].append(workload.run(seconds))
            except BenchmarkError as error:
                whole = False
                progress(f"  failed: {error}")
    return outcomes, whole


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="everything, five times")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="part of a workload's name")
    parser.add_argument("--repeat", type=int, help="runs of each workload")
    parser.add_argument("--seconds", type=float, help="for which a rate is held")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON; the Markdown lies beside it")
    parser.add_argument("--list", action="store_true", help="the workloads' names")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(workload.name for workload in PLAN))
        return 0
    # SIGTERM ends the children too: they are ended on the way out of their `with`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not (work := chosen(arguments.only, arguments.full)):
        parser.error("no such workload: see --list")
    repeat = arguments.repeat or (FULL_REPEAT if arguments.full else 1)
    seconds = arguments.seconds or (FULL_SECONDS if arguments.full else SECONDS)
    machine = report.machine()
    outcomes, whole = carry_out(work, repeat, seconds)
    rows = report.rows(outcomes)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(report.terminal(rows))
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(report.plain(machine, moment, outcomes), indent=1))
    arguments.output.with_suffix(".md").write_text(report.markdown(machine, moment, rows, seconds))
    progress(f"\nwritten to {arguments.output} and {arguments.output.with_suffix('.md').name}")
    if not whole:
        return 1
    return 0 if all(row.met for row in rows) else 2


if __name__ == "__main__":
    sys.exit(main())
