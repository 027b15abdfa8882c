"""Logs in tests: a clock that a test sets, records to write, stores that open and crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import LogStore, Recovery
from gateway.log.records import BatchRecord, EventRecord, Labels, PointRecord, Record, Segment, StreamRecord

T0 = 1_770_000_000_000_000_000
STREAM = "01KAAAAAAAAAAAAAAAAAAAAAAA"
IDENTITY = "box-a/91370200MA3C00000K/qd-chem-01"


class SetClock:
    """Stands still until a test moves it; both clocks move together."""

    def __init__(self, now_ns: int = T0) -> None:
        self.now_ns = now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def batch(device: str = "boiler-1", count: int = 10, *, at: int = T0, base: float = 20.0) -> Batch:
    """Doubles that differ, with times 100 ms apart."""
    return Batch.of(
        device,
        ValueType.FLOAT64,
        np.arange(count),
        base + np.arange(count) * 0.25,
        received_time=at + 5_000_000,
        monotonic=at - T0,
        source_time=at + np.arange(count) * 100_000_000,
    )


def reading(n: int, count: int = 10, device: str = "boiler-1", stream: str = STREAM, base: float = 20.0) -> BatchRecord:
    return BatchRecord(stream, batch(device, count, base=base), Origin("urn:plant", 7, max(n, 0)), n)


def segment(*records: Record) -> Segment:
    return Segment(0, list(records))


def definitions(stream: str = STREAM, device: str = "boiler-1") -> list[Record]:
    return [
        StreamRecord(stream, Labels("production", 1, "general"), T0),
        PointRecord(device, 0, "steam_pressure", stream, 1, T0, type=ValueType.FLOAT64, unit="MPa", tag="PI-101"),
    ]


def open_log(
    folder: Path,
    clock: SetClock | None = None,
    *,
    identity: str = IDENTITY,
    rotate_bytes: int = 256_000_000,
    boot: str | None = None,
    flash: bool | None = None,
) -> tuple[LogStore, Recovery]:
    return LogStore.open(
        folder, identity=identity, clock=clock or SetClock(), rotate_bytes=rotate_bytes, boot=boot, flash=flash
    )


def crash(store: LogStore) -> None:
    """Let go of a store as a killed process does: no last witness, no checkpoint of ours."""
    os.close(store._lock)
    store._close_files()


class SmallDisk:
    """A folder whose disk is nearly full: a tmpfs of 4 MB where we may mount one, else a limit inside SQLite."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted

    def fill(self, store: LogStore) -> None:
        if self.mounted:
            (self.folder / "ballast").write_bytes(bytes(shutil.disk_usage(self.folder).free - 300_000))
        else:
            store._commits.connection.execute("PRAGMA max_page_count=60")

    def free(self, store: LogStore) -> None:
        if self.mounted:
            (self.folder / "ballast").unlink()
        else:
            store._commits.connection.execute("PRAGMA max_page_count=100000")


@contextlib.contextmanager
def small_disk(parent: Path) -> Iterator[SmallDisk]:
    folder = parent / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    try:
        yield SmallDisk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(disk: SmallDisk) -> Iterator[None]:
    """The disk cannot be written: mounted read-only, or without the permission."""
    if disk.mounted:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    else:
        (disk.folder / "log").chmod(0o500)
    try:
        yield
    finally:
        if disk.mounted:
            subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
        else:
            (disk.folder / "log").chmod(0o700)


def same_record(left: Record, right: Record) -> bool:
    """Equal to the bit, dtypes included."""
    if not isinstance(left, BatchRecord) or not isinstance(right, BatchRecord):
        return left == right
    if (left.stream, left.n, left.origin) != (right.stream, right.n, right.origin):
        return False
    return same_batch(left.batch, right.batch)


def same_batch(left: Batch, right: Batch) -> bool:
    scalars = ("device", "type", "received_time", "monotonic")
    columns = ("points", "valid", "status", "source_time", "basis", "flags", "values", "original_time")
    return all(getattr(left, name) == getattr(right, name) for name in scalars) and all(
        _same_column(getattr(left, name), getattr(right, name)) for name in columns
    )


def same_records(left: Sequence[Record], right: Sequence[Record]) -> bool:
    return len(left) == len(right) and all(map(same_record, left, right))


def event(n: int, time: int = T0, **body: object) -> EventRecord:
    return EventRecord(STREAM, time, {"schema": "gap/1", **body}, n)


def offsets(segments: Iterable[Segment]) -> list[int]:
    """The offsets of all readings of the segments."""
    return [
        n for s in segments for r in s.records if isinstance(r, BatchRecord) for n in range(r.n, r.n + len(r.batch))
    ]


def _same_column(left: np.ndarray | None, right: np.ndarray | None) -> bool:
    if left is None or right is None:
        return left is right
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype == object:
        return repr(left.tolist()) == repr(right.tolist())
    return left.tobytes() == right.tobytes()
