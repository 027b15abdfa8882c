"""A log that is filled by the real writer in compressed time, as a gateway would have left it after an outage.

Readings get the times of the plant, offsets and segments are the writer's own, and every commit is synchronised: only
the waiting for the next second is left out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from gateway.contract.batch import ValueType
from gateway.log import LogStore, Writer, machine_id
from gateway.log.records import BatchRecord, DeviceRecord, PointRecord, Record, Segment
from gateway.runtime.opening import FILE_MOST_BYTES, file_bytes

SECOND: Final = 1_000_000_000


class FillClock:
    """The plant's time, which the filler moves; wall and monotonic clock together."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def time_ns(self) -> int:
        """See gateway.contract.Clock."""
        return self.now_ns

    def monotonic_ns(self) -> int:
        """See gateway.contract.Clock."""
        return self.now_ns


class Plant(Protocol):
    """What the readings are of."""

    def entries(self, at: int) -> list[Record]:
        """What explains the readings; `at` in ns."""
        ...

    def second(self, index: int, at: int) -> Iterator[BatchRecord]:
        """All batches of the second that begins at `at`, ns."""
        ...


class Filled(NamedTuple):
    """What a fill left behind."""

    readings: int
    seconds: float
    """it took"""
    commits: int
    segment_bytes: int
    disk_bytes: int


def open_store(
    folder: Path, clock: Any, *, enterprise: str, gateway: str, budget: int | None = None
) -> tuple[LogStore, Any]:
    """The log as that gateway, on this machine, would open it; `budget` in bytes."""
    box = machine_id(folder.with_name(folder.name + ".machine-id"))
    return LogStore.open(
        folder,
        identity=f"{enterprise}/{gateway}@{box}",
        clock=clock,
        rotate_bytes=FILE_MOST_BYTES if budget is None else file_bytes(budget),
    )


async def fill(
    store: LogStore,
    clock: FillClock,
    plant: Plant,
    seconds: int,
    commit_s: float,
    *,
    on_commit: Callable[[list[Segment]], None] = lambda segments: None,
    tidy: Callable[[], Awaitable[None]] | None = None,
) -> Filled:
    """Write the plant's readings of so many seconds from the clock's time on, one commit for each `commit_s` of them.

    `tidy` is awaited between commits, once for each minute of the plant's time.
    """
    began = time.monotonic()
    last = None
    async with Writer(store, next_n={}, commit_s=0, clock=clock, on_commit=on_commit) as writer:
        await writer.write_now(plant.entries(clock.now_ns)).durable()
        tidied = clock.now_ns
        for end, records in _commits(plant, clock.now_ns, seconds, commit_s):
            if last is not None:
                await last.durable()
            clock.now_ns = end
            last = await writer.write(records, sum(record.batch.nbytes for record in records), "plant")
            if tidy is not None and end - tidied >= 60 * SECOND:
                tidied = end
                await last.durable()
                await tidy()
        await writer.flush()
    figures = writer.statistics()
    return Filled(
        figures.readings_total,
        time.monotonic() - began,
        figures.commits,
        figures.bytes_total,
        sum(file.bytes for file in store.files()),
    )


def device_entries(
    name: str, adapter: str, stream: str, points: Sequence[str], types: Sequence[ValueType], at: int
) -> list[Record]:
    """What explains a device whose points have the indexes 0, 1, 2 ...; `at` in ns."""
    pairs = enumerate(zip(points, types, strict=True))
    entries = [PointRecord(name, index, point, stream, 1, at, type=type) for index, (point, type) in pairs]
    return [DeviceRecord(name, None, adapter), *entries]


def _commits(plant: Plant, start: int, seconds: int, commit_s: float) -> Iterator[tuple[int, list[BatchRecord]]]:
    """When each commit ends, and what it takes; commits below a second split the devices over them."""
    parts = max(1, round(1 / commit_s))
    together = max(1, round(commit_s))
    gathered: list[BatchRecord] = []
    for index in range(seconds):
        at = start + index * SECOND
        records = list(plant.second(index, at))
        for part in range(parts):
            gathered += records[part::parts]
            if (index + 1) % together == 0:
                yield at + (part + 1) * SECOND // parts, gathered
                gathered = []
    if gathered:
        yield start + seconds * SECOND, gathered
