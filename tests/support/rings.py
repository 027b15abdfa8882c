"""A log on flash for tests: its newest readings are in the ring alone."""

from __future__ import annotations

from pathlib import Path

from gateway.log import LogStore, Recovery
from tests.support.logs import SetClock, definitions, offsets, open_log, reading, segment

OTHER_BOOT = "the machine was off in between"


def filled(folder: Path, clock: SetClock, commits: int = 20) -> LogStore:
    """Everything but the entries is in the ring alone."""
    store, _ = open_log(folder, clock, flash=True)
    store.append([segment(*definitions())], 1)
    store.close()
    store, recovery = open_log(folder, clock, flash=True)
    assert recovery.continuity is None
    for k in range(commits):
        clock.advance(2)
        store.append([segment(reading(10 * k))], store.bounds().end)
    return store


def everything(store: LogStore) -> list[int]:
    return offsets(store.read(0, 10**9))


def reopened(
    folder: Path, clock: SetClock, boot: str | None = None, *, flash: bool = True
) -> tuple[LogStore, Recovery]:
    return open_log(folder, clock, boot=boot, flash=flash)
