"""Has a stage of the path become per-reading? What each costs for one reading more, against its budget.

    python -m benchmarks.gate [--only NAME]         # a table; ends with 1 when a stage is over its budget

The gate is to fail when somebody puts a loop, an object or a task per reading into the path, and never because the
machine is busy. So nothing in it is a time by itself. Each stage does its work on 1,000 readings and on 10,000, and
what the 9,000 more have cost is looked at in three ways:

- *opcodes*: instructions that the interpreter executed (`sys.settrace`, with `f_trace_opcodes`). A columnar stage
  executes as many for 10,000 readings as for 1,000; the emptiest loop of Python takes three for each step. This is
  exact: the same number on every machine, under any load, for one version of Python. It sees loops, comprehensions,
  generators, callbacks (`np.frompyfunc`, `key=`), coroutines, in every thread.
- *objects*: memory blocks in use at once, looked at between lines and around calls (`sys.getallocatedblocks`). It
  sees what loops inside of C make: `tolist`, `list(map(...))`, `struct.iter_unpack`. Exact but for some dozens.
- *loops*: CPU of this thread, in steps of the simplest loop of Python that makes something of an item, measured in
  turn with it. It is there for loops inside of C that make objects and drop them at once, which the others cannot see:
  `sum(map(float, column))`. A busy machine can make a run slower, never faster: so the least of several runs counts,
  and who is over the budget is measured again, up to `ROUNDS` times, before it counts. What is per reading stays over
  the budget however often it is measured; what is not comes below it with the first run that is left alone. The budget
  is several times of what was seen.

Instruction counts of the processor (perf, valgrind) would be one number for all three, but perf is not there in most
containers, and valgrind takes minutes.

Budgets stand with the stages (benchmarks/stages): what has to be made per reading (a text in JSON) has its own.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

from benchmarks.stages.chain import CHAIN
from benchmarks.stages.counting import counted
from benchmarks.stages.plan import STAGES
from benchmarks.stages.stage import Budget, Stage, Work

FEW: Final = 1_000
MANY: Final = 10_000
"""readings at a time"""
ENOUGH: Final = 3
"""rounds of CPU, when they are well below the budget"""
ROUNDS: Final = 60
COUNTS: Final = 3
"""so often it is counted what seems to be too much: another thread may have had memory for itself"""
_ITEMS: Final = [float(k) for k in range(MANY)]


class Cost(NamedTuple):
    """What one reading more costs, as `Budget`."""

    opcodes: float
    objects: float
    loops: float
    """nan: was not measured"""

    def over(self, budget: Budget) -> list[str]:
        """What is over the budget, in words."""
        return [
            f"{found:.2f} {name} per reading, at most {allowed:g} expected"
            for name, found, allowed in zip(self._fields, self, budget, strict=True)
            if found > allowed
        ]


def cost_of(stage: Stage, counts: int = COUNTS, rounds: int = ROUNDS) -> Cost:
    """Measure one stage. What is over the budget was so each of so many times that it was measured."""
    with ExitStack() as closing:
        few, many = stage.make(FEW, closing), stage.make(MANY, closing)
        for work in (few, many):
            work.run()  # caches fill, the interpreter specialises
        opcodes, objects = _count(few, many, stage.budget, counts)
        loops = math.nan if math.isinf(stage.budget.loops) else _loops(few, many, stage.budget.loops, rounds)
    return Cost(opcodes, objects, loops)


def _count(few: Work, many: Work, budget: Budget, counts: int) -> tuple[float, float]:
    opcodes = objects = math.inf
    for _ in range(counts):
        less, more = counted(few.run), counted(many.run)
        opcodes = min(opcodes, (more.opcodes - less.opcodes) / (many.values - few.values))
        objects = min(objects, (more.objects - less.objects) / (MANY - FEW))
        if opcodes <= budget.opcodes and objects <= budget.objects:
            break
    return opcodes, objects


def _loops(few: Work, many: Work, budget: float, rounds: int) -> float:
    least = [math.inf] * 3
    found = math.inf
    collecting = gc.isenabled()
    gc.disable()
    try:
        for round in range(rounds):
            times = _cpu(_loop), _cpu(few.run), _cpu(many.run)
            least = [min(pair) for pair in zip(least, times, strict=True)]
            step, less, more = least
            found = (more - less) / (many.values - few.values) / (step / MANY)
            if found <= budget and round + 1 >= ENOUGH:
                break
    finally:
        if collecting:
            gc.enable()
    return found


def _loop() -> object:
    return [item * 2.0 for item in _ITEMS]


def _cpu(work: Callable[[], object]) -> int:
    start = time.thread_time_ns()
    work()
    return time.thread_time_ns() - start


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="part of a stage's name")
    arguments = parser.parse_args()
    chosen = [stage for stage in (*STAGES, CHAIN) if not arguments.only or any(n in stage.name for n in arguments.only)]
    if not chosen:
        parser.error("no such stage")
    print(f"{'for one reading more':<34}{'opcodes':>18}{'objects':>18}{'loops':>18}")
    return 1 if sum(_told(stage) for stage in chosen) else 0


def _told(stage: Stage) -> bool:
    """Measure and print; whether it is over its budget."""
    cost = cost_of(stage)
    columns = "".join(f"{found:>10.2f} /{allowed:>6g}" for found, allowed in zip(cost, stage.budget, strict=True))
    over = cost.over(stage.budget)
    print(f"{stage.name:<34}{columns}{'  OVER' if over else ''}", flush=True)
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
