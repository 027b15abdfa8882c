"""The writer: durable means committed, commits gather, a flood blocks itself, a full disk waits, closing flushes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.contract.batch import Batch, ValueType
from gateway.contract.clock import SystemClock
from gateway.log import LogError, LogFullError, LogIOError, LogStore, Tail, Writer, codec
from gateway.log.records import BatchRecord, NoteRecord, Record, Segment, Series
from tests.support.logs import STREAM, T0, SetClock, batch, definitions, event, offsets, open_log, reading, small_disk
from tests.support.wait import eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store, _ = open_log(tmp_path / "log")
    yield store
    store.close()


class StubStore:
    """Takes segments when it is let; fails as told."""

    def __init__(self) -> None:
        self.commits: list[list[Segment]] = []
        self.until: list[int | None] = []
        self.errors: list[Exception] = []
        self.tries = 0
        self.open = threading.Event()
        self.open.set()
        self._end = 1

    def bounds(self) -> tuple[int, int]:
        return 1, self._end

    def append(self, segments: Sequence[Segment], expected_position: int, until: int | None = None) -> int:
        self.open.wait(20)
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        assert expected_position == self._end
        for segment in segments:
            segment.position, self._end = self._end, self._end + 1
            segment.nbytes = sum(map(len, segment.packed or ()))
        self.commits.append(list(segments))
        self.until.append(until)
        return self._end


@contextlib.asynccontextmanager
async def writing(
    store: Any, *, commit_s: float = 0.0, next_n: dict[Series, int] | None = None, **options: Any
) -> AsyncIterator[Writer]:
    options = {"on_commit": lambda segments: None, "clock": SystemClock(), **options}
    async with Writer(store, next_n=next_n or {}, commit_s=commit_s, **options) as writer:
        yield writer


def fresh(count: int = 10, device: str = "boiler-1") -> BatchRecord:
    return BatchRecord(STREAM, batch(device, count))


async def test_durable_means_that_another_connection_sees_it(store: LogStore) -> None:
    async with writing(store) as writer:
        receipt = await writer.write([*definitions(), fresh()], 270, "boiler-1")
        await receipt.durable()
        with contextlib.closing(sqlite3.connect(store.files()[-1].path)) as other:
            ((position, head, body),) = other.execute("SELECT * FROM segment").fetchall()
        records = codec.decode_body(codec.decode_head(head, position), body)
        assert offsets([Segment(1, records)]) == list(range(10))
        assert len(records) == 3


async def test_nothing_is_durable_before_its_commit() -> None:
    stub = StubStore()
    stub.open.clear()
    async with writing(stub) as writer:
        receipt = await writer.write([fresh()], 100, "a")
        durable = asyncio.create_task(receipt.durable())
        await eventually(lambda: not writer._gatherings, message="the thread has taken it")
        assert not durable.done()
        stub.open.set()
        await durable
        assert stub.commits


async def test_on_commit_runs_in_order_before_the_receipts(store: LogStore) -> None:
    seen: list[str] = []
    tail = Tail(1)

    def on_commit(segments: list[Segment]) -> None:
        tail.add(segments)
        seen.append("commit")

    async with writing(store, on_commit=on_commit) as writer:
        for _ in range(3):
            await (await writer.write([fresh()], 100, "a")).durable()
            seen.append("receipt")
    assert seen == ["commit", "receipt"] * 3
    assert offsets(tail.read(1, 10**9) or ()) == list(range(30))


async def test_what_comes_during_a_commit_is_the_next_commit() -> None:
    stub = StubStore()
    stub.open.clear()
    async with writing(stub) as writer:
        await writer.write([fresh()], 100, "a")
        await eventually(lambda: not writer._gatherings)
        receipts = [await writer.write([fresh()], 100, "a") for _ in range(50)]
        stub.open.set()
        await receipts[-1].durable()
        assert [offsets(c)[0] for c in stub.commits] == [0, 10]
        assert len(offsets(stub.commits[1])) == 500
        assert writer.statistics().commits == 2


class WatchedClock(SetClock):
    """Stands still until it is moved, and counts who looks at it."""

    looks = 0

    def monotonic_ns(self) -> int:
        self.looks += 1
        return super().monotonic_ns()


async def test_commits_keep_their_distance_but_a_pause_costs_nothing() -> None:
    stub, clock = StubStore(), WatchedClock()
    async with writing(stub, commit_s=0.05, clock=clock) as writer:
        await (await writer.write([fresh()], 100, "a")).durable()
        receipts = [await writer.write([fresh()], 100, "a") for _ in range(3)]
        looks = clock.looks
        await eventually(lambda: clock.looks > looks + 3, message="the thread looks whether it is time")
        assert len(stub.commits) == 1
        clock.advance(0.05)
        await receipts[-1].durable()
        assert len(stub.commits) == 2
        clock.advance(1)
        await (await writer.write([fresh()], 100, "a")).durable()
        assert len(stub.commits) == 3


async def test_readings_do_not_wait_for_the_commit_of_entries_that_went_before_them() -> None:
    """As at a start: definitions and gaps are committed at once, and the first readings come right after them."""
    stub, clock = StubStore(), WatchedClock()
    async with writing(stub, commit_s=2.0, clock=clock) as writer:
        await (await writer.write([*definitions(), NoteRecord("a", {})], 100, "a")).durable()
        await (await writer.write([fresh()], 100, "a")).durable()
        assert len(stub.commits) == 2, "the clock stands still"
        entry = writer.write_now([event(-1)])
        looks = clock.looks
        await eventually(lambda: clock.looks > looks, message="the thread looks whether it is time")
        assert len(stub.commits) == 2, "an event waits for its time"
        receipt = await writer.write([fresh()], 100, "a")
        looks = clock.looks
        await eventually(lambda: clock.looks > looks, message="the thread looks whether it is time")
        assert len(stub.commits) == 2, "so do further readings"
        clock.advance(2.0)
        await receipt.durable()
        await entry.durable()
        assert len(stub.commits) == 3


async def test_readings_take_along_the_entries_that_wait() -> None:
    stub, clock = StubStore(), WatchedClock()
    async with writing(stub, commit_s=60, clock=clock) as writer:
        await writer.write_now(definitions()).durable()
        entry = writer.write_now([event(-1)])
        looks = clock.looks
        await eventually(lambda: clock.looks > looks, message="the thread looks whether it is time")
        assert len(stub.commits) == 1
        await (await writer.write([fresh()], 100, "a")).durable()
        await entry.durable()
        assert [len(segments) for segments in stub.commits] == [1, 1]


async def test_closing_commits_everything_at_once(store: LogStore) -> None:
    async with writing(store, commit_s=60) as writer:
        await (await writer.write([fresh()], 100, "a")).durable()
        receipts = [await writer.write([fresh()], 100, "a") for _ in range(20)]
        writer.write_now([event(-1)])
    for receipt in receipts:
        await receipt.durable()
    assert offsets(store.read(1, 10**9)) == list(range(210))
    with pytest.raises(LogError, match="closed"):
        await writer.write([fresh()], 100, "a")


async def test_a_flush_does_not_wait_for_the_interval(store: LogStore) -> None:
    async with writing(store, commit_s=60) as writer, asyncio.timeout(20):
        await (await writer.write([fresh()], 100, "a")).durable()
        await writer.write([fresh()], 100, "a")
        await writer.flush()
        assert offsets(store.read(1, 10**9)) == list(range(20))
        await writer.flush()


async def test_cancelling_the_owner_still_commits(store: LogStore) -> None:
    entered = asyncio.Event()

    async def owner() -> None:
        async with writing(store, commit_s=60) as writer:
            await (await writer.write([fresh()], 100, "a")).durable()
            await writer.write([fresh()], 100, "a")
            entered.set()
            await writer.run()

    task = asyncio.create_task(owner())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert offsets(store.read(1, 10**9)) == list(range(20))


async def test_numbers_go_on_from_recovery_each_series_for_itself(store: LogStore) -> None:
    known = {fresh().series: 100, event(0).series: 7}
    async with writing(store, next_n=known) as writer:
        await writer.write([fresh(), fresh(device="meter-2"), fresh()], 100, "a")
        await writer.write_now([event(-1), event(-1)]).durable()
    records = [r for s in store.read(1, 10**9) for r in s.records]
    assert [getattr(r, "n", None) for r in records] == [100, 0, 110, 7, 8]


async def test_a_flood_blocks_only_itself() -> None:
    stub = StubStore()
    stub.open.clear()
    async with writing(stub, share_bytes=1_000, memory_bytes=10_000) as writer:
        for _ in range(2):
            await writer.write([fresh()], 500, "flood")
        blocked = [asyncio.create_task(writer.write([fresh()], 500, "flood")) for _ in range(5)]
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await writer.write([fresh(device="calm")], 500, "calm")
            writer.write_now([event(-1)])
        assert not any(task.done() for task in blocked)
        assert writer.pending_bytes == 2_000
        stub.open.set()
        await asyncio.gather(*blocked)
    assert writer.pending_bytes == 0


async def test_the_total_is_a_bound_and_nobody_is_overtaken_for_ever() -> None:
    stub = StubStore()
    stub.open.clear()
    async with writing(stub, share_bytes=1_000, memory_bytes=2_000) as writer:
        for device in ("a", "b", "c"):
            await writer.write([fresh(device=device)], 600, device)
        large = asyncio.create_task(writer.write([fresh(device="large")], 900, "large"))
        await asyncio.sleep(0)
        small = asyncio.create_task(writer.write([fresh(device="small")], 100, "small"))
        await asyncio.sleep(0)
        assert not large.done()
        assert not small.done()
        assert writer.pending_bytes == 1_800
        stub.open.set()
        await asyncio.gather(large, small)


async def test_a_call_larger_than_its_share_goes_alone() -> None:
    stub = StubStore()
    async with writing(stub, share_bytes=1_000, memory_bytes=2_000) as writer:
        for _ in range(3):
            await writer.write([fresh()], 5_000, "a")
    assert len(offsets(s for c in stub.commits for s in c)) == 30


async def test_a_cancelled_wait_gives_its_memory_back() -> None:
    stub = StubStore()
    stub.open.clear()
    async with writing(stub, share_bytes=1_000) as writer:
        await writer.write([fresh()], 1_000, "a")
        waiting = [asyncio.create_task(writer.write([fresh()], 1_000, "a")) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        stub.open.set()
        await (await waiting[1]).durable()
    assert writer.pending_bytes == 0
    assert sum(len(c) for c in stub.commits) == 2


async def test_waiting_for_memory_brings_the_commit_forward() -> None:
    stub = StubStore()
    async with asyncio.timeout(20), writing(stub, commit_s=60, share_bytes=1_000) as writer:
        for _ in range(10):
            receipt = await writer.write([fresh()], 600, "a")
        assert len(stub.commits) >= 8
        assert receipt is not None


def noise(count: int, seed: int) -> BatchRecord:
    values = np.random.default_rng(seed).normal(size=count)
    return BatchRecord(
        STREAM, Batch.of("boiler-1", ValueType.FLOAT64, range(count), values, received_time=T0, monotonic=0)
    )


async def test_one_call_stays_in_one_segment_and_segments_stay_small(store: LogStore) -> None:
    committed: list[Segment] = []
    async with writing(store, commit_s=0.3, on_commit=committed.extend) as writer:
        for k in range(30):
            calls: list[Record] = [noise(2_000, 3 * k), noise(3_000, 3 * k + 1)]
            await writer.write(calls, 1_000, "a")
    assert len(committed) < 30
    assert all(s.nbytes <= codec.SEGMENT_BYTES for s in committed)
    assert all(len(s.records) % 2 == 0 for s in committed)
    assert offsets(store.read(1, 10**9)) == list(range(150_000))


async def test_a_call_that_is_too_large_is_split_between_records(store: LogStore) -> None:
    async with writing(store) as writer:
        await writer.write([noise(30_000, k) for k in range(4)], 1_000, "a")
        flat: list[Record] = [fresh(60_000), fresh(60_000)]
        for record in flat:
            assert isinstance(record, BatchRecord)
            record.batch.points[:] = np.random.default_rng(1).integers(0, 4, 60_000)
        await writer.write(flat, 1_000, "a")
    segments = store.read(1, 10**9)
    # What is 960 kB of noise is split, what compresses below the limit stays together.
    assert [len(s.records) for s in segments] == [2, 2, 2]
    assert all(s.nbytes <= codec.SEGMENT_BYTES for s in segments)
    assert offsets(segments) == list(range(240_000))


async def test_a_full_disk_waits_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        store, _ = open_log(disk.folder / "log")
        disk.fill(store)
        async with asyncio.timeout(20), writing(store, share_bytes=200_000) as writer:

            async def flood() -> None:
                for k in range(60):
                    await writer.write([noise(1_000, k)], 20_000, "a")

            flooding = asyncio.create_task(flood())
            await eventually(lambda: writer.statistics().stalled)
            assert "full" in (writer.statistics().stalled or "") or "space" in (writer.statistics().stalled or "")
            await eventually(lambda: writer.pending_bytes > 180_000)
            assert not flooding.done()
            disk.free(store)
            await flooding
        assert writer.statistics().stalled is None
        assert offsets(store.read(1, 10**9)) == list(range(60_000))
        store.close()


async def test_a_disk_that_stays_full_ends_a_close_with_an_error() -> None:
    stub = StubStore()
    stub.errors = [LogFullError("full")] * 1000
    writer = Writer(stub, next_n={}, commit_s=0, clock=SystemClock(), on_commit=lambda segments: None)
    await writer.__aenter__()
    receipt = await writer.write([fresh()], 100, "a")
    await eventually(lambda: writer.statistics().stalled)
    with pytest.raises(LogFullError):
        await writer.__aexit__(None, None, None)
    with pytest.raises(LogFullError):
        await receipt.durable()


async def test_a_passing_disk_error_is_tried_again() -> None:
    stub = StubStore()
    stub.errors = [LogIOError("one"), LogIOError("two")]
    async with asyncio.timeout(20), writing(stub) as writer:
        receipt = await writer.write([fresh()], 100, "a")
        await receipt.durable()
    assert stub.tries == 3


async def test_a_dead_disk_ends_run_and_every_receipt() -> None:
    stub = StubStore()
    stub.errors = [LogIOError("dead")] * 4
    writer = Writer(
        stub, next_n={}, commit_s=0, clock=SystemClock(), on_commit=lambda segments: None, share_bytes=1_000
    )
    await writer.__aenter__()
    receipts = [await writer.write([fresh()], 400, "a") for _ in range(2)]
    blocked = asyncio.create_task(writer.write([fresh()], 400, "a"))
    with pytest.raises(LogIOError, match="dead"):
        await asyncio.wait_for(writer.run(), 20)
    for waiting in (*(receipt.durable() for receipt in receipts), blocked):
        with pytest.raises(LogIOError):
            await waiting
    with pytest.raises(LogIOError):
        writer.write_now([event(-1)])
    with pytest.raises(LogIOError):
        await writer.__aexit__(None, None, None)


async def test_nothing_at_all_is_durable_at_once(store: LogStore) -> None:
    async with writing(store) as writer:
        await writer.write_now([]).durable()
        await (await writer.write([], 0, "a")).durable()
    assert store.bounds() == (1, 1)


async def test_statistics_count(store: LogStore) -> None:
    async with writing(store) as writer:
        await writer.write_now([*definitions(), event(-1), reading(-1, 7)]).durable()
        found = writer.statistics()
    assert (found.commits, found.readings_total, found.stalled) == (1, 7, None)
    assert found.bytes_total == store.read(1, 1)[0].nbytes
    assert found.pending_bytes == 0
    assert found.last_commit_s > 0
