"""What programs that count messages at the broker share: how they obey and end, and what they make of delays."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.receive.mqtt import Message
from benchmarks.rig import control

_WAIT_S: Final = 0.02
"""the longest that a command waits when nothing comes"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = ""


class Source(Protocol):
    """Where messages come from; see `mqtt.Subscriber`."""

    def messages(self, wait_s: float) -> Iterator[Message | None]:
        """Each message as it comes; None after `wait_s` without any."""
        ...


def count(
    subscriber: Source, take: Callable[[Message], None], commands: control.Commands, seconds: float | None = None
) -> None:
    """Take each message and obey lines from standard input until it ends; or take messages alone, for `seconds`."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    if seconds is None:
        threading.Thread(target=_read, args=(lines,), name="commands", daemon=True).start()
    deadline = time.monotonic() + (1e9 if seconds is None else seconds)
    for message in subscriber.messages(_WAIT_S):
        if message is not None:
            take(message)
        while not lines.empty():
            if (line := lines.get()) == _END:
                return
            control.obey(line, commands)
        if time.monotonic() > deadline:
            return


def ns_of(text: str) -> int:
    """ns since the epoch of an RFC 3339 time in UTC with up to nine digits."""
    second, _, fraction = text.rstrip("Z").partition(".")
    whole = (datetime.fromisoformat(second).replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def percentiles(delays: Sequence[npt.NDArray[np.int64]], unit_ns: float) -> dict[str, Any]:
    """p50, p99 and max of delays in ns, in the unit that is wanted, and how many they are; empty without any."""
    every = np.concatenate(delays) / unit_ns if delays else np.zeros(0)
    if not len(every):
        return {}
    p50, p99, top = np.percentile(every, (50, 99, 100)).round(5).tolist()
    return {"p50": p50, "p99": p99, "max": top, "count": len(every)}


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put(_END)
