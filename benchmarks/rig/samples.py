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


def settled(every: Sequence[Stack], holding: Sequence[Stack], ran: Mapping[int, float]) -> list[Stack]:
    """What threads did with the CPU that they really had.

    A thread that could run is not one that does: on one core it may wait for another, and a profiler takes it for
    running, mostly where it gives the interpreter's lock away. `every`: samples of threads that could run; `holding`:
    of those that held the lock, which one at a time does; `ran`: by thread id, how often a thread would be seen for the
    CPU that it has used, as the system knows it. What it did without the lock gets what is left of that.
    """
    held = _counts(holding)
    free = {
        thread: {key: max(0.0, seen - held.get(thread, {}).get(key, 0.0)) for key, seen in stacks.items()}
        for thread, stacks in _counts(every).items()
    }
    found = []
    for thread in {*held, *free}:
        with_lock, without = held.get(thread, {}), free.get(thread, {})
        least, most = sum(with_lock.values()), sum(without.values())
        used = ran.get(thread, 0.0)
        found += _scaled(thread, with_lock, min(1.0, used / least) if least else 0.0)
        found += _scaled(thread, without, max(0.0, used - least) / most if most else 0.0)
    return found


_Counts = dict[tuple[str, tuple[Frame, ...]], float]


def _counts(stacks: Iterable[Stack]) -> dict[int, _Counts]:
    counts: dict[int, _Counts] = {}
    for stack in stacks:
        of_thread = counts.setdefault(stack.thread_id, {})
        key = stack.thread, stack.frames
        of_thread[key] = of_thread.get(key, 0.0) + stack.seen
    return counts


def _scaled(thread: int, counts: _Counts, factor: float) -> list[Stack]:
    return [Stack(thread, name, frames, seen * factor) for (name, frames), seen in counts.items() if seen * factor]


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
