"""Exact account of an outage: which item came with which tick, how often, and which gaps were told. Pure.

Every value of the OPC UA load's doubles carries its item and its tick, so that nothing but the values is needed: any
sender and any message format can be counted, as long as somebody finds the values in a message.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import orjson

from benchmarks.load.kinds import ticks_and_items
from benchmarks.receive import arrivals

KIND: Final = "double"


class Found(NamedTuple):
    """The readings of a message, nulls left out."""

    values: Sequence[float]
    times: Sequence[int] = ()
    """ns since the epoch of each, or empty: not known"""


Reader = Callable[[str, bytes], Found | None]
"""gets topic and payload of a message; None when it holds no readings"""


def reader_of(name: str) -> Reader:
    """The function that "module:function" names. Raises ImportError, AttributeError."""
    module, _, function = name.partition(":")
    return cast(Reader, getattr(importlib.import_module(module), function))


def readings(topic: str, payload: bytes) -> Found | None:
    """Ours in both formats, and what the plain scripts send: see `reader_of`."""
    if not topic.endswith("/readings"):
        return None
    body = orjson.loads(payload)
    if "readings" in body:
        kept = [reading for reading in body["readings"] if isinstance(reading["v"], float)]
        return Found([reading["v"] for reading in kept], [arrivals.ns_of(reading["t"]) for reading in kept])
    times = np.broadcast_to(arrivals.ns_of(body["t0"]) + np.array(body["dt"], np.int64), (body["count"],)).tolist()
    pairs = [(value, time) for value, time in zip(body["v"], times, strict=True) if isinstance(value, float)]
    return Found([value for value, _ in pairs], [time for _, time in pairs])


class Hole(NamedTuple):
    """Ticks that are missing, one after the other, of any items."""

    first: int
    last: int
    readings: int


class Told(NamedTuple):
    """A gap record that has its end; ns since the epoch."""

    start: int
    end: int
    reason: str


class Ticks:
    """What came of `items` items."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._came: dict[int, set[int]] = {}
        self._times: dict[int, int] = {}
        """when a tick was, ns, as the first reading of it says"""
        self._newest = -1
        self._gaps: dict[str, Told] = {}
        self.readings = self.twice = self.wrong = 0

    @property
    def newest(self) -> int:
        """The highest tick that came, -1 when none did."""
        return self._newest

    def take(self, found: Found) -> int:
        """Account for a message; the highest tick in it, -1 when it holds no value that can be."""
        ticks, items = ticks_and_items(KIND, np.array(found.values, np.float64))
        times = found.times or [0] * len(ticks)
        highest = -1
        for tick, item, time in zip(ticks.tolist(), items.tolist(), times, strict=True):
            self.readings += 1
            if not 0 <= item < self._items:
                self.wrong += 1
                continue
            came = self._came.setdefault(tick, set())
            self.twice += item in came
            came.add(item)
            highest = max(highest, tick)
            if time:
                self._times.setdefault(tick, time)
        self._newest = max(self._newest, highest)
        return highest

    def told(self, event: Mapping[str, Any]) -> None:
        """Remember a gap that has ended."""
        if event.get("schema") == "gap/1" and event["from"] is not None and event["to"] is not None:
            start, end = arrivals.ns_of(event["from"]), arrivals.ns_of(event["to"])
            self._gaps[event["id"]] = Told(start, end, event["reason"])

    def holes(self, first: int, last: int) -> list[Hole]:
        """What is missing of the ticks from `first` to `last`, both included."""
        found: list[Hole] = []
        for tick in range(first, last + 1):
            missing = self._items - len(self._came.get(tick, ()))
            if not missing:
                continue
            if found and found[-1].last == tick - 1:
                found[-1] = Hole(found[-1].first, tick, found[-1].readings + missing)
            else:
                found.append(Hole(tick, tick, missing))
        return found

    def snapshot(self, first: int, last: int, period_ns: int) -> dict[str, Any]:
        """The account of the ticks from `first` to `last`, `period_ns` apart."""
        holes = self.holes(first, last)
        return {
            "readings": self.readings,
            "lost": sum(hole.readings for hole in holes),
            "lost_and_not_told": sum(self._not_told(first, last, period_ns)),
            "holes": [hole._asdict() for hole in holes],
            "gaps": [gap._asdict() for gap in self._gaps.values()],
            "told_s": self._told_ns() / 1e9,
            "twice": self.twice,
            "wrong": self.wrong,
        }

    def _not_told(self, first: int, last: int, period_ns: int) -> Iterator[int]:
        """Readings of each tick that are missing at a time that no gap covers."""
        for hole in self.holes(first, last):
            for tick in range(hole.first, hole.last + 1):
                time = self._time(tick, hole, period_ns)
                if not any(gap.start <= time <= gap.end for gap in self._gaps.values()):
                    yield self._items - len(self._came.get(tick, ()))

    def _told_ns(self) -> int:
        """How long the gaps are; where they overlap, once."""
        total = end = 0
        for gap in sorted(self._gaps.values()):
            total += max(0, gap.end - max(gap.start, end))
            end = max(end, gap.end)
        return total

    def _time(self, tick: int, hole: Hole, period_ns: int) -> int:
        """When a tick was: as told, or counted on from the last one before the hole. -1 when nobody knows."""
        if (time := self._times.get(tick)) is not None:
            return time
        before = self._times.get(hole.first - 1)
        return -1 if before is None else before + (tick - hole.first + 1) * period_ns
