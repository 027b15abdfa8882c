"""Memory that start-up needed once goes back to the system.

Importing a protocol stack leaves tens of MB of freed memory in the C library's heap; a box with 1 GB has better uses.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Final

EVERY_S: Final = 10.0
"""threads that make messages and blocks each keep what they once needed: on a small box tens of MB after a minute"""


_M_ARENA_MAX: Final = -8
"""of mallopt(3)"""


def one_heap() -> None:
    """Let all threads allocate from one heap, where the C library can do that (glibc); before any thread is started.

    With a heap for each thread what one has freed is of no use to the others. Threads of Python hardly ever allocate at
    the same time, so that they have nothing to gain from it.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Collect garbage and return free heap pages to the system, where the C library can do that (glibc)."""
    gc.collect()
    trim()


def trim() -> None:
    """Return free heap pages of all threads to the system, where the C library can do that (malloc_trim(3))."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


async def stay_small() -> None:
    """Trim again and again until cancelled, beside the event loop."""
    while True:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(trim)
