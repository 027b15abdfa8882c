"""Keeps the log within its budget: records what is dropped for every destination, then unlinks the oldest files."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from gateway.contract.clock import Clock
from gateway.log import WEAR_UNKNOWN, DataFile, LogStore, Wear, WearMeter
from gateway.log.records import SeriesHead
from gateway.runtime.gate import Gate, Held

log = logging.getLogger(__name__)

EVERY_S = 5.0


class Dropper(Protocol):
    """A destination that must count what leaves the log before it was delivered."""

    @property
    def undelivered(self) -> int:
        """Nothing below this position waits for delivery."""
        ...

    async def loaded(self) -> None:
        """Return once `undelivered` is known."""
        ...

    async def trimmed(self, position: int, heads: Iterable[SeriesHead], reason: str = "budget") -> None:
        """Count everything undelivered below `position` as dropped; returns when that is saved."""
        ...


class Usage(NamedTuple):
    """How much the log takes, in bytes."""

    used: int
    free: int
    budget: int
    wear: Wear = WEAR_UNKNOWN
    """of the storage"""


_FULL: Final = Held(
    "log-full", "the log is full and `when_full` is stop-acquiring: see to the destinations, or give it more budget"
)


class Space:
    """Whether devices may acquire: holds their gates shut while the log is full."""

    def __init__(self) -> None:
        self.full = False
        self._gates: list[Gate] = []

    @contextlib.contextmanager
    def keeps(self, gate: Gate) -> Iterator[None]:
        """Hold this gate too, while it is full."""
        self._gates.append(gate)
        if self.full:
            gate.hold(_FULL)
        try:
            yield
        finally:
            self._gates.remove(gate)

    def tell(self, full: bool) -> None:
        """The log is full, or is not."""
        if full == self.full:
            return
        self.full = full
        for gate in self._gates:
            if full:
                gate.hold(_FULL)
            else:
                gate.release(_FULL.reason)
        if full:
            log.error("log: over its budget with readings that wait: devices stop (when_full: stop-acquiring)")
        else:
            log.info("log: within its budget again, devices go on")


class Housekeeping:
    """Trims by age and by size, oldest files first and whole files only.

    For its age only goes what no destination waits for, and one file for each that is begun: a clock that is wrong, or
    was when the file was begun, must not empty the log. With `drop_undelivered` False nothing goes for its size either
    that a destination waits for: then `space` says when devices must stop.
    """

    def __init__(
        self,
        store: LogStore,
        folder: Path,
        droppers: Sequence[Dropper],
        *,
        budget_bytes: int,
        keep_s: float,
        clock: Clock,
        drop_undelivered: bool = True,
        forget: Callable[[int], None] = lambda position: None,
    ) -> None:
        """`forget` is told below which position nobody reads any more, each time that is looked at."""
        self._store = store
        self._droppers = droppers
        self._budget_bytes = budget_bytes
        self._keep_ns = int(keep_s * 1e9)
        self._clock = clock
        self._folder = folder
        self._meter = WearMeter(folder, clock)
        self._drop_undelivered = drop_undelivered
        self._forget = forget
        self._aged: int | None = None
        """first position of the newest file when the last one went for its age"""
        self.at_rest = asyncio.Lock()
        """held while it looks and trims: whoever takes out or puts in a destination must hold it"""
        self.space = Space()
        self.usage = Usage(0, 0, budget_bytes)

    async def run(self) -> None:
        """Look every few seconds until cancelled; not before it is known what waits, or devices stop for nothing."""
        for dropper in self._droppers:
            await dropper.loaded()
        while True:
            await self.tidy()
            await asyncio.sleep(EVERY_S)

    async def tidy(self) -> None:
        """Measure, and trim what is over budget or older than `keep`."""
        async with self.at_rest:
            await self._tidy()

    async def _tidy(self) -> None:
        files = await asyncio.to_thread(self._measure)
        waiting = min((one.undelivered for one in self._droppers), default=None)
        self._forget(self._store.bounds().end if waiting is None else waiting)
        limit = None if self._drop_undelivered else waiting
        cut = cut_position(files, self.usage, limit=limit)
        if cut is None and self._aged != files[-1].first:
            cut = aged_position(files, now=self._clock.time_ns(), keep_ns=self._keep_ns, limit=waiting)
            self._aged = self._aged if cut is None else files[-1].first
        if cut is not None:
            await self._trim(files, cut)
        if not self._drop_undelivered:
            left = sum(file.bytes for file in files if cut is None or file.first >= cut)
            self.space.tell(limit is not None and left > self.usage.budget)

    async def _trim(self, files: Sequence[DataFile], cut: int) -> None:
        heads = await asyncio.to_thread(self._heads, files[0].first, cut)
        for dropper in self._droppers:
            await dropper.trimmed(cut, heads)
        await asyncio.to_thread(self._store.trim, cut)
        log.warning("log: over its budget or older than `keep`: everything below position %d was let go", cut)

    def _heads(self, start: int, end: int) -> list[SeriesHead]:
        return [head for _, heads in self._store.heads(start, end) for head in heads]

    def _measure(self) -> Sequence[DataFile]:
        files = self._store.files()
        used = sum(file.bytes for file in files)
        self.usage = Usage(used, _free(self._folder), self._budget_bytes, self._meter.measure())
        return files


def cut_position(files: Sequence[DataFile], usage: Usage, *, limit: int | None = None) -> int | None:
    """Where the log should begin so that it fits; None when it fits. Never takes the newest file. Pure.

    Nothing at or above position `limit` goes.
    """
    excess = usage.used - usage.budget
    cut = None
    for file, following in itertools.pairwise(files):
        if excess <= 0 or (limit is not None and following.first > limit):
            break
        excess -= file.bytes
        cut = following.first
    return cut


def aged_position(files: Sequence[DataFile], *, now: int, keep_ns: int, limit: int | None = None) -> int | None:
    """Where the log should begin so that the oldest file, if it is older than `keep_ns`, is gone; None when it stays.

    A file's age is that of the one that follows: what it holds was written before. Nothing at or above position `limit`
    goes. Pure.
    """
    if len(files) < 2 or now - files[1].created <= keep_ns or (limit is not None and files[1].first > limit):
        return None
    return files[1].first


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
