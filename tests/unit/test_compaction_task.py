"""The task that compacts: off the event loop, resting in between, and gone as soon as the block at hand is done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.log import DataFile, LogFormatError, LogFullError
from gateway.runtime import compaction
from gateway.runtime.compaction import Compaction
from tests.support.wait import eventually


class Store:
    """Says what it is told to, block after block."""

    def __init__(self, files: int, blocks: int, error: Exception | None = None) -> None:
        self.files = files
        self.blocks = blocks
        self.error = error
        self.calls = 0
        self.paused = 0
        self.threads: set[str] = set()

    def compact(self, pause: Callable[[int], bool]) -> DataFile | None:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        if self.files == 0:
            return None
        for _ in range(self.blocks):
            self.paused += 1
            if not pause(1000):
                return None
        self.files -= 1
        return DataFile(Path("data"), 1, 2, 3, 4, in_blocks=True)


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_all_files_one_after_the_other_in_a_thread() -> None:
    store = Store(files=3, blocks=2)
    task = asyncio.create_task(Compaction(store).run())
    await eventually(lambda: store.calls == 4)
    assert store.paused == 6
    assert threading.current_thread().name not in store.threads
    await cancelled(task)


async def test_a_stop_waits_for_the_block_at_hand_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BYTES_PER_S", 0.001)  # the first rest would take eleven days
    store = Store(files=1, blocks=9)
    task = asyncio.create_task(Compaction(store).run())
    await eventually(lambda: store.paused == 1)
    await cancelled(task)
    assert (store.paused, store.files) == (1, 1)


async def test_it_rests_by_the_bytes_it_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BYTES_PER_S", 20_000)  # a block of 1,000 bytes: 50 ms
    store = Store(files=1, blocks=4)
    began = time.monotonic()
    task = asyncio.create_task(Compaction(store).run())
    await eventually(lambda: store.files == 0)
    assert time.monotonic() - began >= 0.2
    await cancelled(task)


async def test_a_full_disk_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(files=1, blocks=1, error=LogFullError("the disk is full"))
    task = asyncio.create_task(Compaction(store).run())
    await eventually(lambda: "tried again later: the disk is full" in caplog.text)
    await cancelled(task)
    assert store.calls == 1


async def test_what_trying_again_does_not_help_is_told() -> None:
    with pytest.raises(LogFormatError):
        await Compaction(Store(files=1, blocks=1, error=LogFormatError("newer"))).run()
