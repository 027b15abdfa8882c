"""What a piece of work costs the Python interpreter, without a clock."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NamedTuple

_CLOSE_LOOKS: Final = 1_000
"""so often memory is looked at whenever it may have changed; then, in what is a loop, only now and then"""
_SPARSE: Final = 64


class Counted(NamedTuple):
    """What one call took."""

    opcodes: int
    """instructions that the interpreter executed, in all threads that were started meanwhile too"""
    objects: int
    """memory blocks of the interpreter in use at once, beyond those at the beginning: objects, roughly"""


class _Counter:
    """Watches every instruction of Python code, and every call of C code from it."""

    def __init__(self) -> None:
        self.instructions = itertools.count()  # one step of it is atomic: threads share it
        self._looks = 0
        self._base = self._peak = sys.getallocatedblocks()

    @property
    def objects(self) -> int:
        return self._peak - self._base

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        """For sys.settrace: a function begins."""
        frame.f_trace_opcodes = True
        self._look()
        return self._within

    def profile(self, frame: FrameType, event: str, arg: Any) -> None:
        """For sys.setprofile: around calls of C functions, whose arguments and results are alive now."""
        if event in {"c_call", "c_return"}:
            self._look()

    def _within(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            next(self.instructions)
        else:
            self._look()
        return self._within

    def _look(self) -> None:
        self._looks += 1
        if self._looks < _CLOSE_LOOKS or self._looks % _SPARSE == 0:
            self._peak = max(self._peak, sys.getallocatedblocks())


def counted(work: Callable[[], object]) -> Counted:
    """Run `work` under the interpreter's own tracing, with the garbage collector off."""
    before = sys.gettrace(), sys.getprofile(), threading.gettrace()
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()  # what there is needs no look, which would take longer than the work
    gc.collect()  # empties the interpreter's lists of objects to use again
    counter = _Counter()
    threading.settrace(counter.trace)
    sys.setprofile(counter.profile)
    sys.settrace(counter.trace)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
        threading.settrace(before[2])
        gc.unfreeze()
        if collecting:
            gc.enable()
    return Counted(next(counter.instructions), counter.objects)
