"""Work in a thread that is never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(work: Callable[[], T]) -> T:
    """Run blocking `work` in a thread. Whoever is cancelled meanwhile waits for its end, and is cancelled then.

    A write goes on in its thread when its caller is cancelled: one that begins after it must not meet it.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as again:
            cancelled = again
    if cancelled is not None:
        running.exception()  # or asyncio complains that nobody asked
        raise cancelled
    return running.result()
