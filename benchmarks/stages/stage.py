"""What a stage is: work on so many readings at a time, and what it may cost for each of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple


class Budget(NamedTuple):
    """What a stage may cost for one reading more. `benchmarks.gate` says how each is measured."""

    opcodes: float
    """instructions of the Python interpreter"""
    objects: float
    """Python objects that are alive at the same time"""
    loops: float
    """CPU, in steps of the simplest loop of Python that makes something of an item"""


COLUMNS: Final = Budget(opcodes=0.5, objects=0.2, loops=1.0)
"""no loop over readings can do with this: an empty one takes three instructions for each step"""
BYTES: Final = COLUMNS._replace(loops=2.5)
"""the same where columns become bytes or text, or the other way round, and every byte is looked at"""


class Work(NamedTuple):
    """A stage that is ready to run, again and again, on the same readings."""

    run: Callable[[], object]
    values: int
    """that one call works on"""
    nbytes: int | None = None
    """that one call makes or reads, where that is of interest"""


class Stage(NamedTuple):
    """A stage by name. `make`: for so many readings at a time, its work; what that needs is closed by the stack."""

    name: str
    make: Callable[[int, ExitStack], Work]
    budget: Budget = COLUMNS
