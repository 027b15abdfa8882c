"""Samples of a profiler: which part of the gateway, which function, which thread. Pure.

Read from py-spy's raw format: a line for each distinct stack, outermost frame first, `function (file:line);... count`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Final, NamedTuple

AREAS: Final = (
    ("decoding", ("adapters/opcua/decoding/", "adapters/modbus/decode", "adapters/modbus/gather")),
    ("protocol", ("adapters/",)),
    ("normalise", ("gateway/normalise/", "gateway/points/", "gateway/runtime/sink", "gateway/contract/")),
    ("log", ("gateway/log/",)),
    ("paho", ("paho/",)),
    ("publishing", ("gateway/publishing/", "gateway/rfc3339")),
    ("socket and loop", ("asyncio/", "uvloop/", "selectors.", "socket.", "gateway/runtime/", "gateway/commands/")),
    ("other", ("gateway/",)),
)
"""by the beginning of a file's path, the first that fits; files that are in none belong to whoever called them"""

WAITING: Final = frozenset(
    {
        "asyncio/runners.py Runner.run",
        "paho/mqtt/client.py Client._loop",
        "threading.py Condition.wait",
        "concurrent/futures/thread.py _worker",
        "selectors.py _PollLikeSelector.select",
    }
)
"""functions in which threads wait: whether they really ran there the profiler does not know for certain"""

_FRAME: Final = re.compile(r"(.*) \((.*?)(?::(\d+))?\)")
_THREAD: Final = re.compile(r"thread \((\d+)\)(?:: (.*))?")
_ROOTS: Final = ("site-packages/", "lib-dynload/", "/lib/python3")


class Frame(NamedTuple):
    """A function, as it is shown."""

    function: str
    file: str
    """below the project, or below the folder of packages"""

    @property
    def area(self) -> str | None:
        """The part of the gateway; None: a library that belongs to whoever called it."""
        return next((area for area, starts in AREAS if self.file.startswith(starts)), None)

    def __str__(self) -> str:
        return f"{self.file} {self.function}"


class Stack(NamedTuple):
    """A distinct stack, outermost first, and how often it was seen."""

    thread_id: int
    """the system's"""
    thread: str
    frames: tuple[Frame, ...]
    seen: float

    @property
    def waits(self) -> bool:
        """May be a thread that waits."""
        return bool(self.frames) and str(self.frames[-1]) in WAITING

    @property
    def owner(self) -> Frame | None:
        """The innermost function that is in an area: what libraries below it do is its cost."""
        return next((frame for frame in reversed(self.frames) if frame.area is not None), None)


def read(text: str, root: str) -> list[Stack]:
    """Stacks from py-spy's raw format with full file names and threads; `root`: the project's folder."""
    return [_stack(line, root) for line in text.splitlines() if line]


def _stack(line: str, root: str) -> Stack:
    stack, _, count = line.rpartition(" ")
    thread_id, thread, frames = 0, "", []
    for part in stack.split(";"):
        if found := _THREAD.fullmatch(part):
            thread_id, thread = int(found[1]), found[2] or ""
        elif found := _FRAME.fullmatch(part):
            frames.append(Frame(found[1], shortened(found[2], root)))
    return Stack(thread_id, thread, tuple(frames), int(count))


def without_waiting(stacks: Sequence[Stack], ran: Mapping[int, float]) -> list[Stack]:
    """The same, but threads that were seen more often than they ran were waiting in `WAITING` for the rest.

    `ran`: by thread id, how often it would be seen for the CPU that it has used, as the system knows it.
    """
    seen: defaultdict[int, float] = defaultdict(float)
    waiting: defaultdict[int, float] = defaultdict(float)
    for stack in stacks:
        seen[stack.thread_id] += stack.seen
        waiting[stack.thread_id] += stack.seen if stack.waits else 0
    shares = {
        thread: max(0.0, 1 - max(0.0, times - ran.get(thread, 0.0)) / waiting[thread]) if waiting[thread] else 1.0
        for thread, times in seen.items()
    }
    return [stack._replace(seen=stack.seen * shares[stack.thread_id]) if stack.waits else stack for stack in stacks]


def shortened(path: str, root: str) -> str:
    """A file's path below the project, the packages or the standard library."""
    if PurePath(path).is_relative_to(root) and "site-packages/" not in path:
        return str(PurePath(path).relative_to(root))
    for folder in _ROOTS:
        _, found, rest = path.rpartition(folder)
        if found:
            return rest.partition("/")[2] if folder == _ROOTS[-1] else rest
    return path


class Share(NamedTuple):
    """Something, and its share of all samples."""

    name: str
    own: float
    total: float
    """with everything that it called"""


def by_area(stacks: Sequence[Stack]) -> list[Share]:
    """The parts of the gateway, the largest first; `total` is `own`."""
    counts: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        owner = stack.owner
        counts[(owner.area if owner else None) or "other"] += stack.seen
    return _shares(counts, counts, stacks)


def by_thread(stacks: Sequence[Stack]) -> list[Share]:
    """Threads by name, those of one pool together."""
    counts: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        counts[re.sub(r"_\d+$", "", stack.thread) or "unnamed"] += stack.seen
    return _shares(counts, counts, stacks)


def by_function(stacks: Sequence[Stack]) -> list[Share]:
    """Functions of the gateway and of what it is built on, the largest own cost first."""
    own: defaultdict[str, float] = defaultdict(float)
    total: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        if stack.owner is not None:
            own[str(stack.owner)] += stack.seen
        for name in {str(frame) for frame in stack.frames if frame.area is not None}:
            total[name] += stack.seen
    return _shares(own, total, stacks)


def by_leaf(stacks: Sequence[Stack]) -> list[Share]:
    """Functions as the profiler saw them, libraries too: by what they spent themselves."""
    own: defaultdict[str, float] = defaultdict(float)
    total: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        if stack.frames:
            own[str(stack.frames[-1])] += stack.seen
        for name in {str(frame) for frame in stack.frames}:
            total[name] += stack.seen
    return _shares(own, total, stacks)


def _shares(own: Mapping[str, float], total: Mapping[str, float], stacks: Iterable[Stack]) -> list[Share]:
    everything = sum(stack.seen for stack in stacks) or 1.0
    largest = sorted(own, key=lambda name: -own[name])
    return [Share(name, own[name] / everything, total[name] / everything) for name in largest]
