"""Keeps the log within its budget: records what is dropped for every destination, then unlinks the oldest files."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.contract.clock import Clock
from gateway.log import DataFile, LogStore
from gateway.log.records import SeriesHead

log = logging.getLogger(__name__)

EVERY_S = 5.0


class Dropper(Protocol):
    """A destination that must count what leaves the log before it was delivered."""

    async def trimmed(self, position: int, heads: Iterable[SeriesHead], reason: str = "budget") -> None:
        """Count everything undelivered below `position` as dropped; returns when that is saved."""
        ...


class Usage(NamedTuple):
    """How much the log takes, in bytes."""

    used: int
    free: int
    budget: int


class Housekeeping:
    """Trims by age and by size, oldest files first and whole files only."""

    def __init__(
        self,
        store: LogStore,
        folder: Path,
        droppers: Sequence[Dropper],
        *,
        budget_bytes: int,
        keep_s: float,
        clock: Clock,
    ) -> None:
        self._store = store
        self._droppers = droppers
        self._budget_bytes = budget_bytes
        self._keep_ns = int(keep_s * 1e9)
        self._clock = clock
        self._folder = folder
        self.usage = Usage(0, 0, budget_bytes)

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            await self.tidy()
            await asyncio.sleep(EVERY_S)

    async def tidy(self) -> None:
        """Measure, and trim what is over budget or older than `keep`."""
        files = await asyncio.to_thread(self._measure)
        cut = cut_position(files, self.usage, now=self._clock.time_ns(), keep_ns=self._keep_ns)
        if cut is None:
            return
        heads = await asyncio.to_thread(self._heads, files[0].first, cut)
        for dropper in self._droppers:
            await dropper.trimmed(cut, heads)
        await asyncio.to_thread(self._store.trim, cut)
        log.warning("log: over its budget or older than `keep`: everything below position %d was let go", cut)

    def _heads(self, start: int, end: int) -> list[SeriesHead]:
        return [head for _, heads in self._store.heads(start, end) for head in heads]

    def _measure(self) -> Sequence[DataFile]:
        files = self._store.files()
        self.usage = Usage(sum(file.bytes for file in files), _free(self._folder), self._budget_bytes)
        return files


def cut_position(files: Sequence[DataFile], usage: Usage, *, now: int, keep_ns: int) -> int | None:
    """Where the log should begin so that it fits; None when it fits. Never takes the newest file. Pure.

    Age counts only in whole files that a younger file follows: a clock that jumps ahead must not empty the log at
    once, so at most one file goes for its age in one round.
    """
    excess = usage.used - usage.budget
    cut = None
    for file, following in itertools.pairwise(files):
        too_old = cut is None and now - following.created > keep_ns
        if excess <= 0 and not too_old:
            break
        excess -= file.bytes
        cut = following.first
    return cut


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
