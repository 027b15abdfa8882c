"""The log's figures for a plant of 1,000 readings a second: `python -m benchmarks.log.figures`. About three minutes.

Bytes of a day are measured on an ext4 image of our own (needs root), with as many commits as asked for, one after the
other, each with the readings of `commit` seconds. The kernel's timers, which would not run out meanwhile, are stood in
for: the file system's journal is written every 6 s of the plant's time (ext4 commits 5 s after the first change, which
comes with the next commit), and what only lies in memory every 30 s (vm.dirty_expire_centisecs).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.log.loop_disk import LoopDisk, loop_disk
from benchmarks.log.plant import SECOND, T0, WHAT, Plant
from benchmarks.report import machine
from gateway.contract.clock import SystemClock
from gateway.log import LogStore, StateStore, Writer, blocks, codec, frames
from gateway.log.records import BatchRecord, Record, Segment, Series

RESULTS: Final = Path(__file__).parent / "results" / "log.json"
NOMINAL: Final = 1_000
"""readings/s that the bytes of a day are stated for"""
DAY_S: Final = 86_400
COMMIT_S: Final = 2
"""the default on eMMC and SD"""
SAVE_S: Final = 30
"""between two saves of a destination's positions there"""
_JOURNAL_S: Final = 6
_WRITE_BACK_S: Final = 30
_BOOKS_BYTES: Final = 1_500
"""of one destination's books in state.db"""
_PLANT_S: Final = 600

Data = dict[str, Any]


class PlantClock:
    """Stands where the plant is."""

    def __init__(self) -> None:
        self.now = T0

    def time_ns(self) -> int:
        """The plant's time."""
        return self.now

    def monotonic_ns(self) -> int:
        """The same."""
        return self.now


class Feed:
    """The plant's readings for ever: after `seconds` the same values come again, later."""

    def __init__(self, seconds: int = _PLANT_S) -> None:
        plant = Plant()
        self._seconds = [list(plant.second(index)) for index in range(seconds)]
        self._next_n: dict[Series, int] = {}

    def commit(self, index: int, seconds: int) -> list[BatchRecord]:
        """The readings of `seconds`, offsets given."""
        found = [record for k in range(seconds) for record in self._second(index * seconds + k)]
        for record in found:
            record.n = self._next_n.get(record.series, 0)
            self._next_n[record.series] = record.n + len(record.batch)
        return found

    def _second(self, index: int) -> Iterator[BatchRecord]:
        rounds, second = divmod(index, len(self._seconds))
        later = rounds * len(self._seconds) * SECOND
        for record in self._seconds[second]:
            batch = record.batch
            moved = dataclasses.replace(
                batch, source_time=batch.source_time + later, received_time=batch.received_time + later,
                monotonic=batch.monotonic + later,
            )  # fmt: skip
            yield BatchRecord(record.stream, moved, record.origin)


def sizes(seconds: int, commit_s: int) -> Data:
    """Bytes a reading: as segments by themselves, in the ring with its pages filled up, and in blocks."""
    feed = Feed()
    sources = []
    staged = 0
    chain = frames.Chain(bytes(16), 1)
    for index in range(seconds // commit_s):
        records: list[Record] = list(feed.commit(index, commit_s))
        head, body, _ = codec.encode_segment(records, index + 1, T0)
        sources.append(blocks.Source(codec.decode_head(head, index + 1), len(head) + len(body), records))
        staged += len(chain.commit(sources[-1:]))
        chain.written()
    readings = sum(source.head.readings for source in sources)
    packed = [blocks.encode_block(part) for part in blocks.blockwise(sources)]
    return {
        "fresh": sum(source.nbytes for source in sources) / readings,
        "ring": staged / readings,
        "blocks": sum(len(head) + len(body) for head, body in packed) / readings,
    }


def written_a_day(commits: int, warm_up: int) -> Data:
    """Bytes a day at 1,000 readings/s: what segments take by themselves, what is handed over, what reaches the device.

    Measured twice more without what surrounds the log, so that the parts can be told by subtraction.
    """
    with loop_disk() as disk:
        log = _written(disk, commits, warm_up, timers=False, books=False)
    with loop_disk() as disk:
        timed = _written(disk, commits, warm_up, timers=True, books=False)
    with loop_disk() as disk:
        whole = _written(disk, commits, warm_up, timers=True, books=True)
    return {
        **whole,
        "parts": {
            "the log: ring, then data file": log["device"],
            "file system's journal, witness": timed["device"] - log["device"],
            "positions (state.db)": whole["device"] - timed["device"],
        },
    }


def _written(disk: LoopDisk, commits: int, warm_up: int, *, timers: bool, books: bool) -> Data:
    clock, feed = PlantClock(), Feed()
    store, _ = LogStore.open(disk.folder / "log", identity="bench", clock=clock, flash=True)
    state = StateStore(disk.folder / "log" / "state.db")
    position = version = encoded = readings = 0
    before = (0, 0, 0)
    for index in range(warm_up + commits):
        if index == warm_up:
            disk.write_back()
            before, encoded, readings = (disk.written(), *_handed_over()), 0, 0
        records: list[Record] = list(feed.commit(index, COMMIT_S))
        clock.now = T0 + (index + 1) * COMMIT_S * SECOND
        segment = Segment(0, records)
        position = store.append([segment], position or store.bounds().end)
        encoded += segment.nbytes
        readings += sum(len(r.batch) for r in records if isinstance(r, BatchRecord))
        now = (index + 1) * COMMIT_S
        if books and now % SAVE_S == 0:
            saved = {"ranges": [[position, None]], "account": os.urandom(_BOOKS_BYTES // 2).hex()}
            version = state.put("destination/centre", saved, version)
        if timers and now % _WRITE_BACK_S == 0:
            disk.write_back()
        elif timers and now % _JOURNAL_S == 0:
            disk.commit_journal()
    disk.write_back()
    wchar, write_bytes = _handed_over()
    per_day = NOMINAL * DAY_S / readings
    found = {
        "encoded": encoded * per_day,
        "written by system calls": (wchar - before[1]) * per_day,
        "write_bytes of the process": (write_bytes - before[2]) * per_day,
        "device": (disk.written() - before[0]) * per_day,
    }
    state.close()
    store.close()
    return found


def _handed_over() -> tuple[int, int]:
    """wchar and write_bytes of this process (proc(5), /proc/pid/io)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"]), int(fields["write_bytes"])


async def saturation(folder: Path, seconds: float) -> Data:
    """Readings/s and processor time a reading when the writer gets all that it takes and makes no pause."""
    feed = Feed()
    clock = SystemClock()
    ready = [feed.commit(index, 1) for index in range(_PLANT_S)]
    second = itertools.cycle(range(_PLANT_S))
    store, _ = LogStore.open(folder / "log", identity="bench", clock=clock)
    readings = 0
    async with Writer(store, next_n={}, commit_s=0.0, clock=clock, on_commit=lambda _: None) as writer:
        began, used = time.monotonic(), time.process_time()
        while time.monotonic() - began < seconds:
            for record in ready[next(second)]:
                again = BatchRecord(record.stream, record.batch, record.origin)
                await writer.write([again], again.batch.nbytes, again.batch.device)
                readings += len(again.batch)
    took, used = time.monotonic() - began, time.process_time() - used
    store.close()
    return {"readings_per_s": readings / took, "cpu_us": used / readings * 1e6}


def report(results: Data) -> str:
    """All of it as Markdown."""
    size, full = results["sizes"], results["saturation"]
    lines = [
        f"The plant: {WHAT}.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| readings/s at which the log saturates | {full['readings_per_s']:,.0f} |",
        f"| processor time a reading | {full['cpu_us']:.2f} us |",
        f"| bytes a reading, committed every {COMMIT_S} s, as on a disk | {size['fresh']:.2f} |",
        f"| bytes a reading, the same in the ring, whole pages | {size['ring']:.2f} |",
        f"| bytes a reading, in blocks | {size['blocks']:.2f} |",
    ]
    if day := results["day"]:
        lines += [
            f"| a day at {NOMINAL:,} readings/s: {name} | {day[name] / 1e6:,.0f} MB |"
            for name in ("encoded", "written by system calls", "write_bytes of the process", "device")
        ]
        lines += [f"| - of the device's: {name} | {value / 1e6:,.0f} MB |" for name, value in day["parts"].items()]
    else:
        lines.append("| bytes of a day | not measured: needs root, mkfs.ext4 and losetup |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=900, help="measured, of two seconds each")
    parser.add_argument(
        "--warm-up", type=int, default=700, help="commits before, until the positions' write-ahead log goes round"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results: Data = {"machine": machine(), "plant": WHAT, "sizes": sizes(_PLANT_S, COMMIT_S)}
    with tempfile.TemporaryDirectory() as folder:
        results["saturation"] = asyncio.run(saturation(Path(folder), 5.0))
    try:
        results["day"] = written_a_day(arguments.commits, arguments.warm_up)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"bytes of a day are not measured: {error}", file=sys.stderr)
        results["day"] = None
    print(report(results))
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
