"""SIGKILL at random moments: every position that was reported durable is there again, and holds what was written.

Files are made into blocks all the while, so that many kills meet one half made or just put in its place.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import numpy as np

from gateway.contract.batch import Batch, ValueType
from gateway.contract.clock import SystemClock
from gateway.log import LogStore, Writer
from gateway.log.records import BatchRecord, Segment
from tests.support.kills import killed_child

KILLS = 10


def test_every_durable_position_survives_a_kill(tmp_path: Path) -> None:
    chance = random.Random(20)
    folder = tmp_path / "log"
    promised: dict[int, str] = {}
    used: set[tuple[str, int]] = set()
    for _ in range(KILLS):
        for line in killed_child("tests.fault.test_log_kill", folder, tmp_path / "out", chance):
            position, described = line.split(" ", 1)
            assert int(position) not in promised, "a position was used twice"
            promised[int(position)] = described
            stream, n, count, _ = described.split()
            offsets = {(stream, int(n) + k) for k in range(int(count))}
            assert not offsets & used, "an offset was used twice"
            used |= offsets
    assert len(promised) > KILLS
    store, _ = LogStore.open(folder, identity="kill", clock=SystemClock(), rotate_bytes=200_000)
    assert sum(file.in_blocks for file in store.files()) > KILLS, "too little was compacted to show anything"
    found = {segment.position: describe(segment) for segment in store.read(0, 10**12)}
    store.close()
    assert {position: found.get(position) for position in promised} == promised


def describe(segment: Segment) -> str:
    (record,) = segment.records
    assert isinstance(record, BatchRecord)
    return f"{record.stream} {record.n} {len(record.batch)} {record.batch.values.tobytes().hex()[:80]}"


async def child(folder: Path) -> None:
    """Append for ever, and print each segment once it is durable."""
    clock = SystemClock()
    store, recovery = LogStore.open(folder, identity="kill", clock=clock, rotate_bytes=200_000)
    stream = f"S{store.bounds().end}" if recovery.continuity else next(iter(recovery.next_n)).stream
    if recovery.continuity is None:
        stream = max(recovery.next_n, key=lambda series: int(series.stream[1:])).stream
    next_n = {series: n for series, n in recovery.next_n.items() if series.stream == stream}

    def report(segments: list[Segment]) -> None:
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
    asyncio.run(child(Path(sys.argv[1])))
