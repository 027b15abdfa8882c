"""What each stage costs by itself, in us of CPU per value, on 10,000 readings at a time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from benchmarks.rig.measure import progress
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.stages.plan import STAGES
from benchmarks.stages.stage import Work

READINGS: Final = 10_000
SECONDS: Final = 0.5
TRIES: Final = 5


def run(_: float) -> Outcome:
    """A figure for each stage."""
    results = measure()
    return Outcome([Figure(name, stage["us"], "us/value") for name, stage in results.items()], dict(results))


def measure() -> dict[str, dict[str, float]]:
    """Stage name to us of CPU per value, and bytes per value where the stage makes bytes."""
    results = {}
    for stage in STAGES:
        with ExitStack() as closing:
            work = stage.make(READINGS, closing)
            seconds = best(work)
        results[stage.name] = {"us": seconds / work.values * 1e6}
        if work.nbytes is not None:
            results[stage.name]["bytes"] = work.nbytes / work.values
        progress(f"  {stage.name:<40}{results[stage.name]['us']:8.4f} us/value")
    return results


def best(work: Work) -> float:
    """CPU of one call, s: the best of `TRIES`, in each of which it is called again and again."""
    work.run()
    least = float("inf")
    for _ in range(TRIES):
        calls, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < SECONDS / TRIES:
            work.run()
            calls += 1
        least = min(least, elapsed / calls)
    return least
