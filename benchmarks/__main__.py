"""Measure the gateway on this machine: `python -m benchmarks [--full] [--only NAME ...] [--repeat N] [--seconds S]`.

The gateway has one core for itself; load servers, broker and receiver share another. Without options everything that
is short runs once, in about 5 minutes; --full runs everything five times, which takes hours: --resume goes on where a
run was interrupted. Results are printed, and written as JSON and Markdown below benchmarks/results, anew after each
workload. Ends with 1 when a workload could not be carried out, with 2 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import report
from benchmarks.plan import PLAN, Workload
from benchmarks.rig.measure import progress
from benchmarks.rig.outcome import Data, Outcome
from benchmarks.rig.processes import BenchmarkError

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
SECONDS: Final = 3.0
FULL_SECONDS: Final = 5.0
FULL_REPEAT: Final = 5
SHORT_S: Final = 30.0
LONG_S: Final = 100.0
"""what a workload takes about, short or not, where no run of before tells"""


def chosen(names: list[str], full: bool) -> list[Workload]:
    """What to run: by name or part of one, or everything, or what is short."""
    if names:
        whole = {workload.name for workload in PLAN}
        return [
            workload
            for workload in PLAN
            if any(name == workload.name if name in whole else name in workload.name for name in names)
        ]
    return [workload for workload in PLAN if full or workload.short]


Outcomes = dict[str, list[Outcome]]
"""by workload, one for each run"""


def carry_out(
    work: Sequence[Workload], repeat: int, seconds: float, outcomes: Outcomes, keep: Callable[[], None]
) -> bool:
    """Run everything, `repeat` times in turn, so that a slow minute of the machine does not meet one of them alone.

    What `outcomes` has already is not run again, and `keep` is called after each addition to it. Whether all could be
    carried out.
    """
    whole = True
    for round in range(repeat):
        for workload in work:
            runs = outcomes.setdefault(workload.name, [])
            if len(runs) > round:
                continue
            progress(f"{workload.name}  ({round + 1} of {repeat})")
            begun = time.monotonic()
            try:
                outcome = workload.run(seconds)
            except BenchmarkError as error:
                whole = False
                progress(f"  failed: {error}")
                continue
            took = time.monotonic() - begun
            runs.append(outcome._replace(details={**outcome.details, report.TOOK: took}))
            progress(f"  {took:.0f} s")
            keep()
    return whole


def expected_s(work: Sequence[Workload], repeat: int, done: Mapping[str, int], known: Outcomes) -> float:
    """How long what is still to be run will take; `done`: runs that there are already; `known`: of any earlier run."""
    total = 0.0
    for workload in work:
        took = [run.details[report.TOOK] for run in known.get(workload.name, ()) if report.TOOK in run.details]
        each = median(took) if took else SHORT_S if workload.short else LONG_S
        total += each * max(0, repeat - done.get(workload.name, 0))
    return total


def load(path: Path) -> tuple[Data, Outcomes]:
    """What a run of before has written: how it was run, and its outcomes; nothing where there is none."""
    if not path.exists():
        return {}, {}
    found = json.loads(path.read_text())
    return found, report.outcomes_of(found)


class Results:
    """The files that a run writes, anew after each workload."""

    def __init__(self, path: Path, machine: Data, seconds: float, repeat: int, outcomes: Outcomes) -> None:
        self._path = path
        self._machine = machine
        self._seconds, self._repeat = seconds, repeat
        self._outcomes = outcomes

    def write(self) -> None:
        """JSON and Markdown, each whole or not at all."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = report.plain(self._machine, moment, self._outcomes, self._seconds, self._repeat)
        page = report.markdown(self._machine, moment, report.rows(self._outcomes), self._seconds)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for path, text in (
            (self._path, json.dumps(found, indent=1)),
            (self._path.with_suffix(".md"), page + report.durations(self._outcomes)),
        ):
            new = path.with_name(path.name + ".new")
            new.write_text(text)
            new.replace(path)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="everything, five times")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="part of a workload's name")
    parser.add_argument("--repeat", type=int, help="runs of each workload")
    parser.add_argument("--seconds", type=float, help="for which a rate is held")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON; the Markdown lies beside it")
    parser.add_argument("--resume", action="store_true", help="go on where a run like this one was interrupted")
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
    before, known = load(arguments.output)
    outcomes: Outcomes = {}
    if arguments.resume:
        if before.get("seconds") != seconds:
            parser.error(f"{arguments.output} has no run with --seconds {seconds:g} that could be gone on with")
        outcomes = known
    done = {name: len(runs) for name, runs in outcomes.items()}
    progress(f"about {expected_s(work, repeat, done, known) / 60:.1f} minutes")
    results = Results(arguments.output, report.machine(), seconds, repeat, outcomes)
    whole = carry_out(work, repeat, seconds, outcomes, results.write)
    rows = report.rows(outcomes)
    print(report.terminal(rows))
    progress(f"\nwritten to {arguments.output} and {arguments.output.with_suffix('.md').name}")
    if not whole:
        return 1
    return 0 if all(row.met for row in rows) else 2


if __name__ == "__main__":
    sys.exit(main())
