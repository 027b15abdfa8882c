"""What a shared machine does to times that are measured on it."""

from __future__ import annotations

import time

_WORK_S = 0.2


def slowdown() -> float:
    """How many times longer work takes at this moment because others use the processors; 1 on a quiet machine.

    Elapsed time over processor time of some work of ours: what waits for a processor is not ours to answer for.
    """
    elapsed, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() - worked < _WORK_S:
        pass
    return (time.perf_counter() - elapsed) / (time.thread_time() - worked)
