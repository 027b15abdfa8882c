"""A process that appends to a log for ever and says what is durable, for tests that end it; and the check afterwards.

    python -m tests.support.appending FOLDER

It prints a line for each segment once it is durable: position, stream, first offset, count, the values' first bytes.
Before the first of them it says why new streams begin, or None.
Closed files are made into blocks all the while.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gateway.contract.batch import Batch, ValueType
from gateway.contract.clock import SystemClock
from gateway.log import LogStore, Recovery, Writer, ring
from gateway.log.records import BatchRecord, Segment

MODULE = "tests.support.appending"
ALWAYS_FLASH = "APPENDING_ON_FLASH"
"""in the environment: as on flash at every start, with a ring of a few commits"""
SMALL_RING = 24


def open_log(folder: Path) -> tuple[LogStore, Recovery]:
    """The log as the process opens it."""
    # As on flash every other time, so that files of both kinds follow each other; or always.
    always = ALWAYS_FLASH in os.environ
    flash = always or len(list(folder.glob("data-*.db"))) % 2 == 1
    ring.PAGES = SMALL_RING if always else ring.PAGES
    return LogStore.open(folder, identity="kill", clock=SystemClock(), rotate_bytes=200_000, flash=flash)


def describe(segment: Segment) -> str:
    """Stream, first offset, count and the values' first bytes."""
    (record,) = segment.records
    assert isinstance(record, BatchRecord)
    return f"{record.stream} {record.n} {len(record.batch)} {record.batch.values.tobytes().hex()[:80]}"


@dataclass(slots=True)
class Promises:
    """What was said, over all lives of the process."""

    durable: dict[int, str] = field(default_factory=dict)
    """by position"""
    offsets: set[tuple[str, int]] = field(default_factory=set)

    def take(self, lines: list[str]) -> None:
        """What one life printed. Fails where a position or an offset comes a second time."""
        for line in lines[1:]:
            position, described = line.split(" ", 1)
            assert int(position) not in self.durable, f"position {position} was used twice"
            self.durable[int(position)] = described
            stream, n, count, _ = described.split()
            offsets = {(stream, int(n) + k) for k in range(int(count))}
            assert not offsets & self.offsets, f"an offset was used twice: {described}"
            self.offsets |= offsets

    def lost(self, folder: Path) -> list[int]:
        """Positions that the log no longer holds as they were promised; the log is left as it is."""
        with tempfile.TemporaryDirectory() as home:
            copy = shutil.copytree(folder, Path(home) / "log")
            store, _ = open_log(copy)
            found = {segment.position: describe(segment) for segment in store.read(0, 10**12) if segment.records}
            store.close()
        return [position for position, promised in self.durable.items() if found.get(position) != promised]


async def main(folder: Path) -> None:
    """Until it is killed."""
    clock = SystemClock()
    store, recovery = open_log(folder)
    # As the gateway's own: an id that nobody ever had, else the one that began last.
    going_on = recovery.next_n if recovery.continuity is None else {}
    stream = next(reversed(going_on)).stream if going_on else uuid.uuid4().hex
    next_n = {series: n for series, n in recovery.next_n.items() if series.stream == stream}

    unsaid = [f"{recovery.continuity}\n"]

    def report(segments: list[Segment]) -> None:
        sys.stdout.write("".join(unsaid))
        unsaid.clear()
        for segment in segments:
            sys.stdout.write(f"{segment.position} {describe(segment)}\n")
        sys.stdout.flush()

    chance = np.random.default_rng(store.bounds().end)

    def compact() -> None:
        while store.compact(lambda _: True) is not None:
            pass

    compacting = asyncio.get_running_loop().run_in_executor(None, compact)
    async with Writer(store, next_n=next_n, commit_s=0, clock=clock, on_commit=report) as writer:
        while True:
            if compacting.done():
                compacting.result()
                compacting = asyncio.get_running_loop().run_in_executor(None, compact)
            count = int(chance.integers(1, 2000))
            values = chance.normal(size=count)
            batch = Batch.of("d", ValueType.FLOAT64, range(count), values, received_time=clock.time_ns(), monotonic=0)
            await (await writer.write([BatchRecord(stream, batch)], batch.nbytes, "d")).durable()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
