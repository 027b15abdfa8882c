"""Files of the log that are lost: a destination counts what they held as dropped, per device, to the reading."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from pathlib import Path

import pytest

from gateway.contract.clock import SystemClock
from gateway.log import StateStore, Tail
from gateway.log.records import DeviceRecord, Labels, PointRecord, StreamRecord
from gateway.points.table import PointTable
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.publishing.statistics import Counts
from tests.support.broker import free_port
from tests.support.logs import STREAM, T0, open_log, reading, segment
from tests.support.wait import eventually

STEADY, RARE = "steady", "rare"
"""one device writes into every file, the other into the third alone"""


def written(folder: Path) -> tuple[list[Path], list[dict[str, int]]]:
    """A log of five files: their paths, and how many readings of each device are in each."""
    store, _ = open_log(folder, rotate_bytes=80_000)
    entries = [StreamRecord(STREAM, Labels("production", 1, "general"), T0)]
    for device in (STEADY, RARE):
        entries += [DeviceRecord(device, None, "test"), PointRecord(device, 0, "p", STREAM, 1, T0)]
    store.append([segment(*entries)], 1)
    next_n = {STEADY: 0, RARE: 0}
    while len(store.files()) < 5:
        device = RARE if len(store.files()) == 3 and store.bounds().end % 2 else STEADY
        store.append([segment(reading(next_n[device], 10, device))], store.bounds().end)
        next_n[device] += 10
    held = []
    for file in store.files():
        counts = {STEADY: 0, RARE: 0}
        for _, heads in store.heads(file.first, file.end):
            for head in heads:
                counts[head.series.device] += head.readings
        held.append(counts)
    paths = [file.path for file in store.files()]
    store.close()
    assert held[2][RARE]
    assert all(counts[STEADY] for counts in held)
    return paths, held


@contextlib.asynccontextmanager
async def destination(folder: Path) -> AsyncIterator[Publisher]:
    """One that nobody answers, so that everything waits; its books are saved when it goes."""
    store, recovery = open_log(folder, rotate_bytes=80_000)
    state = StateStore(folder / "state.db")
    table = PointTable()
    table.apply(recovery.records)
    publisher = Publisher(
        DestinationConfig(name="centre", url=f"mqtt://127.0.0.1:{free_port()}", max_grade=1),
        enterprise="91370200MA3C00000K",
        gateway="gw-1",
        version="0.1",
        timezone=UTC,
        log=store,
        tail=Tail(store.bounds().end),
        state=state,
        points=table,
        clock=SystemClock(),
    )
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        await eventually(lambda: publisher.statistics().state == "down")
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        state.close()
        store.close()


async def accounts(folder: Path) -> tuple[dict[str, Counts], Counts]:
    async with destination(folder) as publisher:
        found = publisher.statistics()
        return dict(found.devices), found.total


def nothing(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("lose", "known", "which"),
    [(Path.unlink, True, 1), (Path.unlink, True, 2), (nothing, True, 2), (nothing, False, 1)],
    ids=["missing", "missing with all of a device", "empty", "empty, new destination"],
)
async def test_a_lost_file_is_counted_per_device(
    tmp_path: Path, lose: Callable[[Path], None], known: bool, which: int
) -> None:
    """`known before`: the destination's saved account has all of the file's readings; else the next file tells."""
    folder = tmp_path / "log"
    paths, held = written(folder)
    if known:
        devices, total = await accounts(folder)
        assert total.waiting == sum(sum(counts.values()) for counts in held)
    lose(paths[which])
    for _ in range(2):  # counted once, whatever number of starts
        devices, total = await accounts(folder)
        assert total.unbalanced == 0
        steady = devices[STEADY]
        assert steady.accepted == sum(counts[STEADY] for counts in held)
        assert steady.dropped == {"damaged": held[which][STEADY]}
        assert steady.waiting == steady.accepted - held[which][STEADY]
        if which == 2 and known:
            rare = devices[RARE]
            assert (rare.accepted, rare.waiting, rare.dropped) == (held[2][RARE], 0, {"damaged": held[2][RARE]})


async def test_a_lost_newest_file_is_counted_as_far_as_it_was_known(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    paths, held = written(folder)
    await accounts(folder)
    paths[-1].unlink()
    for _ in range(2):
        devices, total = await accounts(folder)
        assert total.unbalanced == 0
        assert devices[STEADY].dropped == {"damaged": held[-1][STEADY]}
        assert total.waiting == sum(sum(counts.values()) for counts in held[:-1])
