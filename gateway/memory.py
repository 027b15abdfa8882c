"""Memory that start-up needed once goes back to the system.

Importing a protocol stack leaves tens of MB of freed memory in the C library's heap; a box with 1 GB has better uses.
"""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collect garbage and return free heap pages to the system, where the C library can do that (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
