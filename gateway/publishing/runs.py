"""Runs: readings of one series with consecutive offsets, as slices of the log's records. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.log.records import BatchRecord, Series


class Slice(NamedTuple):
    """Readings start..stop of one record."""

    record: BatchRecord
    start: int
    stop: int
    position: int
    """the segment the record lies in"""

    @property
    def n(self) -> int:
        """Offset of the first reading."""
        return self.record.n + self.start

    @property
    def readings(self) -> int:
        """Number of readings."""
        return self.stop - self.start


@dataclass(slots=True)
class Run:
    """Slices of one series, each beginning where the one before ends."""

    series: Series
    slices: tuple[Slice, ...]

    @property
    def n(self) -> int:
        """Offset of the first reading."""
        return self.slices[0].n

    @property
    def count(self) -> int:
        """Number of readings."""
        return sum([part.stop - part.start for part in self.slices])

    @property
    def last_time(self) -> int:
        """Source time of the last reading, ns."""
        part = self.slices[-1]
        return int(part.record.batch.source_time[part.stop - 1])

    def split(self, most: int) -> tuple[Run, Run | None]:
        """The first `most` (>= 1) readings, and the rest if there is one."""
        if self.count <= most:
            return self, None
        head: list[Slice] = []
        room = most
        for k, part in enumerate(self.slices):
            if part.readings <= room:
                head.append(part)
                room -= part.readings
                if room == 0:
                    return Run(self.series, tuple(head)), Run(self.series, self.slices[k + 1 :])
                continue
            middle = part.start + room
            rest = (part._replace(start=middle), *self.slices[k + 1 :])
            return Run(self.series, (*head, part._replace(stop=middle))), Run(self.series, rest)
        return self, None


def within(run: Run, first: int, end: int) -> Run | None:
    """What of a run has offsets first <= n < end; None when nothing has."""
    rest: Run | None = run
    if run.n < first:
        rest = None if run.n + run.count <= first else run.split(first - run.n)[1]
    if rest is None or rest.n >= end:
        return None
    return rest.split(end - rest.n)[0] if rest.n + rest.count > end else rest


def whole(record: BatchRecord, position: int) -> Slice:
    """A slice of everything in a record."""
    return Slice(record, 0, len(record.batch), position)


def visible(record: BatchRecord, position: int, hidden: npt.NDArray[np.bool_]) -> list[Slice]:
    """Slices of what `hidden` (bool[n]) leaves of a record; offsets stay what they are."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], hidden, [True])).astype(np.int8))).tolist()
    return [Slice(record, start, stop, position) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def gather(slices: Iterable[Slice]) -> list[Run]:
    """Runs of all series, in the order in which each begins; a hole in the offsets begins a new run."""
    done: list[list[Slice]] = []
    open_runs: dict[Series, list[Slice]] = {}
    for part in slices:
        series = part.record.series
        run = open_runs.get(series)
        if run is None or run[-1].record.n + run[-1].stop != part.n:
            run = open_runs[series] = []
            done.append(run)
        run.append(part)
    return [Run(run[0].record.series, tuple(run)) for run in done]
