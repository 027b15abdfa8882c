"""What one device puts into a commit is bounded: its neighbours' readings go with the next, however slow the disk."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.contract.clock import SystemClock
from gateway.log import Writer
from gateway.log.records import BatchRecord, EventRecord, Segment
from tests.support.logs import STREAM, T0, SetClock, batch, event, offsets, open_log
from tests.support.wait import eventually

CALL = 270
"""bytes that a call of one batch is said to have"""
LIMIT = 1_000


class SlowStore:
    """Each commit takes until the test lets it end."""

    def __init__(self) -> None:
        self.commits: list[list[Segment]] = []
        self.until: list[int | None] = []
        self.begun = 0
        self.error: Exception | None = None
        self._turns = threading.Semaphore(0)
        self._end = 1

    def bounds(self) -> tuple[int, int]:
        return 1, self._end

    def let(self, commits: int = 1) -> None:
        self._turns.release(commits)

    def append(self, segments: Sequence[Segment], expected_position: int, until: int | None = None) -> int:
        self.begun += 1
        assert self._turns.acquire(timeout=60)
        if self.error is not None:
            raise self.error
        for segment in segments:
            segment.position, self._end = self._end, self._end + 1
        self.commits.append(list(segments))
        self.until.append(until)
        return self._end


@contextlib.asynccontextmanager
async def writing(store: Any, **options: Any) -> AsyncIterator[Writer]:
    options = {"commit_s": 0.0, "share_bytes": 8 * LIMIT, "commit_share_bytes": LIMIT, "ahead_s": 0.0, **options}
    async with Writer(
        store, next_n={}, on_commit=lambda segments: None, **{"clock": SystemClock(), **options}
    ) as writer:
        yield writer


def fresh(device: str, count: int = 10) -> BatchRecord:
    return BatchRecord(STREAM, batch(device, count))


def devices(commit: Sequence[Segment]) -> Counter[str]:
    """Calls of each device in a commit."""
    return Counter(r.batch.device for segment in commit for r in segment.records if isinstance(r, BatchRecord))


class Queued(NamedTuple):
    """One call that waits."""

    nbytes: int
    entries: int
    """how many entries were queued before it"""


async def fill(writer: Writer, store: SlowStore, device: str = "flood") -> list[asyncio.Task[None]]:
    """Queue all that the device's share holds, the first commit being under way; returns its receipts, in order."""
    begun = store.begun
    receipts = [await writer.write([fresh(device)], CALL, device)]
    await eventually(lambda: store.begun > begun, message="a commit is under way")
    while not (writing := asyncio.ensure_future(writer.write([fresh(device)], CALL, device))).done():
        await asyncio.sleep(0)
        if not writing.done():
            writing.cancel()
            await asyncio.wait([writing])  # while it waits for memory, the log hurries
            break
        receipts.append(writing.result())
    return [asyncio.ensure_future(receipt.durable()) for receipt in receipts]


async def test_a_neighbour_waits_for_two_commits_that_one_device_cannot_fill() -> None:
    store = SlowStore()
    async with asyncio.timeout(60), writing(store) as writer:
        flood = await fill(writer, store)
        assert len(flood) == 8 * LIMIT // CALL, "its whole share is queued"
        calm = asyncio.ensure_future((await writer.write([fresh("calm")], CALL, "calm")).durable())
        store.let(2)
        await calm
        assert [devices(commit) for commit in store.commits] == [{"flood": 1}, {"flood": LIMIT // CALL, "calm": 1}]
        assert [receipt.done() for receipt in flood] == [k <= LIMIT // CALL for k in range(len(flood))]
        store.let(100)
    assert all(devices(commit)["flood"] * CALL <= LIMIT for commit in store.commits)
    assert [n for commit in store.commits for n in offsets(_of("flood", commit))] == list(range(10 * len(flood)))
    assert all(receipt.done() for receipt in flood)
    assert writer.pending_bytes == 0


def _of(device: str, commit: Sequence[Segment]) -> list[Segment]:
    return [
        Segment(s.position, [r for r in s.records if isinstance(r, BatchRecord) and r.batch.device == device])
        for s in commit
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_is_queued_each_commit_is_bounded_and_leaves_no_device_out(seed: int) -> None:
    """Random calls of many devices while commits end one by one; the test keeps its own list of what is queued."""
    draw, store = random.Random(seed), SlowStore()
    queued: defaultdict[str, list[Queued]] = defaultdict(list)
    entries = committed = calls = 0
    options = {"share_bytes": 10**9, "memory_bytes": 10**9, "commit_bytes": 4 * LIMIT}
    async with asyncio.timeout(60), writing(store, **options) as writer:
        await writer.write([fresh("first")], 1, "first")
        queued["first"].append(Queued(1, 0))
        await eventually(lambda: store.begun == 1)
        for step in range(1, 31):
            under_way = {"first"} if step == 1 else {device for device, of in queued.items() if of}
            due = 0 if step == 1 else entries
            for _ in range(draw.randrange(1, 30)):
                device, nbytes = f"d{draw.randrange(8)}", draw.choice([10, 100, 400, 999, 3_000])
                if draw.random() < 0.1:
                    writer.write_now([event(-1)])
                    entries += 1
                await writer.write([fresh(device, 1)], nbytes, device)
                queued[device].append(Queued(nbytes, entries))
            store.let()
            await eventually(lambda: store.begun == step + 1)  # noqa: B023  waited for at once
            commit = store.commits[-1]
            found = devices(commit)
            assert set(found) == under_way, "every device that had something queued is in it"
            committed += sum(isinstance(r, EventRecord) for segment in commit for r in segment.records)
            assert committed == due, "entries never wait"
            taken = {device: queued[device][:count] for device, count in found.items()}
            for device, of in taken.items():
                del queued[device][: len(of)]
                assert all(one.entries <= committed for one in of), "entries come before the readings that need them"
                assert sum(one.nbytes for one in of) <= LIMIT or len(of) == 1
            assert sum(one.nbytes for of in taken.values() for one in of[1:]) <= 4 * LIMIT
            calls += found.total()
        rest = sum(map(len, queued.values()))
        store.let(10_000)
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for record in (r for commit in store.commits for segment in commit for r in segment.records):
        if isinstance(record, BatchRecord):
            numbers[record.batch.device].append(record.n)
    assert all(of == sorted(of) for of in numbers.values())
    assert sum(map(len, numbers.values())) == calls + rest


async def test_what_the_disk_would_write_at_once_is_one_commit() -> None:
    """A fast disk is not asked for a sync for every MB of a busy device."""
    store, clock = SlowStore(), SetClock()
    options = {"clock": clock, "ahead_s": 2.0}
    async with asyncio.timeout(60), writing(store, **options) as writer:
        flood = await fill(writer, store)
        clock.advance(CALL / 1_000)  # the first commit writes 1,000 bytes a second: 2,000 bytes at once are no delay
        store.let(100)
        await asyncio.gather(*flood)
    limit = LIMIT // CALL
    assert [devices(commit)["flood"] for commit in store.commits[:2]] == [1, 2 * limit]
    assert sum(devices(commit)["flood"] for commit in store.commits) == len(flood)


async def test_a_flush_waits_for_what_is_held_back() -> None:
    store = SlowStore()
    async with asyncio.timeout(60), writing(store) as writer:
        flood = await fill(writer, store)
        flushing = asyncio.ensure_future(writer.flush())
        await asyncio.sleep(0)
        store.let(100)
        await flushing
        assert sum(devices(commit)["flood"] for commit in store.commits) == len(flood)


async def test_a_flush_beside_the_commit_of_the_last_entry_ends() -> None:
    """It weighs nothing, and the memory that entries share is given back before it."""
    store = SlowStore()
    async with asyncio.timeout(20), writing(store) as writer:
        entry = writer.write_now([event(-1)])
        await eventually(lambda: store.begun == 1, message="its commit is under way")
        flushed = asyncio.ensure_future(writer.flush())
        await asyncio.sleep(0)
        store.let(2)
        await entry.durable()
        await flushed
        assert writer.pending_bytes == 0


async def test_a_full_commit_does_not_wait_for_the_interval() -> None:
    """One busy device is as fast as before: what does not fit into a commit makes the next one begin at once."""
    store, clock = SlowStore(), SetClock()
    async with asyncio.timeout(60), writing(store, commit_s=3600, clock=clock) as writer:
        flood = await fill(writer, store)
        store.let(100)
        held = len(flood) - 1  # beside the first call, each commit takes what fits; the last waits for its time
        full = (held - 1) // (LIMIT // CALL)
        await eventually(lambda: len(store.commits) == 1 + full)
        assert not flood[-1].done()
        clock.advance(3600)


async def test_a_dead_disk_ends_what_is_held_back_too() -> None:
    store = SlowStore()
    writer = Writer(
        store, next_n={}, commit_s=0, clock=SystemClock(), on_commit=lambda segments: None,
        share_bytes=8 * LIMIT, commit_share_bytes=LIMIT,
    )  # fmt: skip
    await writer.__aenter__()
    flood = await fill(writer, store)
    store.error = OSError("dead")
    store.let()
    with pytest.raises(OSError, match="dead"):
        await asyncio.wait_for(writer.run(), 20)
    for receipt in flood:
        with pytest.raises(OSError, match="dead"):
            await receipt
    assert writer.pending_bytes == 0
    with pytest.raises(OSError, match="dead"):
        await writer.__aexit__(None, None, None)


async def test_a_commit_says_until_when_nothing_is_left_behind() -> None:
    """After a crash the gateway takes it that all that came before the last commit is in the log."""
    store, clock = SlowStore(), SetClock()
    queued: list[int] = []
    async with asyncio.timeout(60), writing(store, clock=clock) as writer:
        await writer.write([fresh("flood")], CALL, "flood")
        await eventually(lambda: store.begun == 1)
        for _ in range(10):
            clock.advance(1)
            queued.append(clock.now_ns)
            await writer.write([fresh("flood")], CALL, "flood")
        clock.advance(1)
        store.let(100)
        await eventually(lambda: sum(devices(commit)["flood"] for commit in store.commits) == 11)
    # The second takes the calls of the first three seconds, the fourth one's is left behind.
    assert store.until == [T0, queued[3], queued[6], queued[9], clock.now_ns]


async def test_the_log_keeps_that_time(tmp_path: Path) -> None:
    store, _ = open_log(tmp_path / "log", SetClock(T0))
    for until, expected in ((T0 - 5, T0 - 5), (None, T0), (T0 + 5, T0)):
        segment = Segment(0, [event(store.bounds()[1] - 1)])
        store.append([segment], store.bounds()[1], until)
        assert store._preamble.last_commit == expected
    store.close()
    _, found = open_log(tmp_path / "log", SetClock(T0))
    assert found.last_commit == T0
