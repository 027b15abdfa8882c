"""The ring in front of the data files on a disk that is full or fails: what waits, and that nothing is lost."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from gateway.log import LogFullError, LogIOError, ring
from gateway.log.frames import PAGE
from gateway.log.identity import WITNESS_BYTES
from tests.support.logs import SetClock, crash, open_log, reading, segment, small_disk
from tests.support.rings import OTHER_BOOT, everything, filled, reopened


def test_a_full_disk_takes_nothing_and_loses_nothing(tmp_path: Path, clock: SetClock) -> None:
    with small_disk(tmp_path) as disk:
        store, _ = open_log(disk.folder / "log", clock, flash=True)
        disk.fill(store)
        n = 0
        full = None
        while full is None:
            noisy = reading(n, 2000)
            noisy.batch.values[:] = [random.Random(n + k).random() for k in range(2000)]
            try:
                store.append([segment(noisy)], store.bounds().end)
                n += 2000
            except LogFullError as error:
                full = error
        assert full.retry
        crash(store)
        disk.free(store) if disk.mounted else None
        store, recovery = open_log(disk.folder / "log", clock, flash=True)
        assert (recovery.continuity, recovery.damage) == (None, [])
        store.append([segment(reading(n))], store.bounds().end)
        assert everything(store) == list(range(n + 10))
        store.close()


def test_a_full_data_file_is_noticed_before_the_next_round_and_loses_nothing(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ring has room there is no need of the disk; then the append waits, as it does for any full disk."""
    monkeypatch.setattr(ring, "PAGES", 8)
    store = filled(folder, clock, commits=7)
    store._commits.connection.execute("PRAGMA query_only=ON")
    for _ in range(3):
        with pytest.raises(LogIOError, match="cannot be written") as caught:
            store.append([segment(reading(70))], store.bounds().end)
        assert caught.value.retry
        assert everything(store) == list(range(70))
    store._commits.connection.execute("PRAGMA query_only=OFF")
    store.append([segment(reading(70))], store.bounds().end)
    assert everything(store) == list(range(80))
    crash(store)
    store, recovery = reopened(folder, clock)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert everything(store) == list(range(80))
    store.close()


def test_a_stop_while_the_data_file_cannot_be_written_leaves_it_in_the_ring(folder: Path, clock: SetClock) -> None:
    store = filled(folder, clock)
    store._commits.connection.execute("PRAGMA query_only=ON")
    store.close()
    store, recovery = reopened(folder, clock, OTHER_BOOT)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert everything(store) == list(range(200))
    store.close()


def test_a_write_that_fails_halfway_is_made_again(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(folder, clock, commits=3)
    write = os.pwrite
    left = [1]

    def failing(file: int, content: bytes, offset: int) -> int:
        if len(content) == WITNESS_BYTES:
            return write(file, content, offset)
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left.pop()
        return write(file, content[:1000], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", failing)
        for _ in range(2):
            with pytest.raises(LogIOError):
                store.append([segment(reading(30))], store.bounds().end)
    for k in range(3, 6):
        store.append([segment(reading(10 * k))], store.bounds().end)
    crash(store)
    store, recovery = reopened(folder, clock, OTHER_BOOT)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert everything(store) == list(range(60))
    store.close()


def test_a_full_disk_at_the_first_start_waits(folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(ring.os, "fsync", full)
        with pytest.raises(LogFullError, match="free space"):
            open_log(folder, clock, flash=True)
    store, recovery = open_log(folder, clock, flash=True)
    assert recovery.continuity == "created"
    assert (folder / "ring").stat().st_size == ring.PAGES * PAGE
    store.append([segment(reading(0))], 1)
    store.close()
