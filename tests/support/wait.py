"""Waiting in tests: poll a condition until a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

POLL_S = 0.02


async def eventually(predicate: Callable[[], T | Awaitable[T]], timeout_s: float = 20.0, message: str = "") -> T:
    """Poll `predicate` (plain or async) until it returns something true, and return that.

    Raises AssertionError with `message` and the last result after `timeout_s` of the event loop's time.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + timeout_s
    while True:
        outcome = predicate()
        result = await outcome if inspect.isawaitable(outcome) else outcome
        if result:
            return cast(T, result)
        if clock.time() >= deadline:
            raise AssertionError(_complaint(message, timeout_s, result))
        await asyncio.sleep(POLL_S)


def eventually_sync(predicate: Callable[[], T], timeout_s: float = 20.0, message: str = "") -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(_complaint(message, timeout_s, result))
        time.sleep(POLL_S)


def _complaint(message: str, timeout_s: float, last: object) -> str:
    return f"not within {timeout_s:g} s: {message or 'condition'} (last result: {last!r})"
