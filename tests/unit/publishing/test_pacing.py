"""Window, bandwidth, back-off, schedule and verdicts."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.backoff import Backoff
from gateway.publishing.accounts import Period, Schedule
from gateway.publishing.compress import compressor, decompress
from gateway.publishing.login import default_client_id
from gateway.publishing.pacing import Bucket, next_alone
from gateway.publishing.verdicts import Verdict, verdict
from gateway.publishing.window import Window

HOUR = 3600 * 10**9


class FakeClock:
    def __init__(self, now: int = 0) -> None:
        self.now = now

    def time_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.now


def test_a_bucket_lets_the_rate_through() -> None:
    bucket, now, sent = Bucket(1000, 0), 0, 0
    while now < 10 * 10**9:
        wait = bucket.wait_s(now)
        if wait > 0:
            now += round(wait * 1e9)
            continue
        bucket.take(300, now)
        sent += 300
    assert 10_000 <= sent <= 11_000


def test_back_off_grows_to_its_limit_and_starts_over() -> None:
    backoff = Backoff(random.Random(1))
    delays = [backoff.next_s() for _ in range(20)]
    assert all(0.05 <= delay <= 30 for delay in delays)
    assert max(delays) > 15
    assert delays[0] <= 0.5
    backoff.reset()
    assert backoff.next_s() <= 0.5


async def test_window_counts_messages_and_bytes() -> None:
    window = Window(2, 1000, 500, FakeClock())
    await window.acquire(5000, backlog=False)  # a single one is always let through
    async with asyncio.TaskGroup() as group:
        task = group.create_task(window.acquire(10, backlog=False))
        await asyncio.sleep(0)
        assert not task.done()
        window.release(5000, backlog=False)
    assert (window.messages, window.nbytes) == (1, 10)


async def test_live_goes_before_the_backlog() -> None:
    window = Window(1, 1000, 500, FakeClock())
    order: list[str] = []

    async def one(name: str) -> None:
        await window.acquire(10, backlog=name == "backlog")
        order.append(name)
        window.release(10, backlog=name == "backlog")

    await window.acquire(10, backlog=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(one("backlog"))
        await asyncio.sleep(0)
        group.create_task(one("live"))
        await asyncio.sleep(0)
        window.release(10, backlog=True)
    assert order == ["live", "backlog"]
    assert window.messages == 0


async def test_the_backlog_leaves_room_for_live() -> None:
    window = Window(4, 1000, 500, FakeClock())
    await window.acquire(10, backlog=True)
    await window.acquire(10, backlog=True)
    async with asyncio.TaskGroup() as group:
        third = group.create_task(window.acquire(10, backlog=True))
        await asyncio.sleep(0)
        await window.acquire(10, backlog=False)
        assert not third.done()
        window.release(10, backlog=True)
    assert window.messages == 3


async def test_a_cancelled_wait_takes_no_slot() -> None:
    window = Window(1, 1000, 500, FakeClock())
    await window.acquire(10, backlog=False)
    task = asyncio.ensure_future(window.acquire(10, backlog=False))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    window.release(10, backlog=False)
    await window.idle()
    await window.acquire(10, backlog=True)
    assert window.messages == 1


def test_after_a_cut_more_and_more_messages_go_one_by_one() -> None:
    alone = [0]
    for _ in range(6):
        alone.append(next_alone(alone[-1], under_way=3, lived_ns=10**9))
    assert alone == [0, 1, 4, 16, 64, 256, 256]
    assert next_alone(64, under_way=0, lived_ns=10**9) == 0, "nothing was under way that could be the reason"
    assert next_alone(64, under_way=3, lived_ns=10**11) == 0, "it had gone well for long"


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 10**9


def test_accounts_are_due_at_whole_hours_and_local_midnight() -> None:
    shanghai = timezone(timedelta(hours=8))
    schedule = Schedule(3600, shanghai, at("2026-11-20T14:10:00+00:00"))
    assert schedule.due(at("2026-11-20T14:59:59+00:00")) == []
    end = at("2026-11-20T15:00:00+00:00")
    assert schedule.due(end + 5) == [Period("hour", end - HOUR, end)]
    assert schedule.due(end + 6) == []
    midnight = at("2026-11-21T00:00:00+08:00")
    assert schedule.due(midnight) == [
        Period("hour", midnight - HOUR, midnight),
        Period("day", midnight - 24 * HOUR, midnight),
    ]


def test_after_a_pause_the_latest_period_is_told_once() -> None:
    schedule = Schedule(3600, UTC, at("2026-11-20T14:10:00+00:00"))
    end = at("2026-11-20T19:00:00+00:00")
    assert schedule.due(end + 10) == [Period("hour", end - HOUR, end)]
    assert schedule.due(end + 11) == []


def test_a_clock_that_is_put_back_does_not_stop_the_schedule() -> None:
    schedule = Schedule(3600, UTC, at("2026-11-20T14:10:00+00:00"))
    assert schedule.due(at("2026-11-10T09:30:00+00:00")) == []
    end = at("2026-11-10T10:00:00+00:00")
    assert schedule.due(end) == [Period("hour", end - HOUR, end)]


@pytest.mark.parametrize(
    ("code", "readings", "hold", "expected"),
    [
        (0x00, 5, True, Verdict.DELIVERED),
        (0x10, 5, True, Verdict.HOLD),
        (0x10, 5, False, Verdict.DELIVERED),
        (0x80, 5, True, Verdict.STOP),
        (0x83, 5, True, Verdict.STOP),
        (0x87, 5, True, Verdict.STOP),
        (0x97, 5, True, Verdict.STOP),
        (0x90, 5, True, Verdict.PARK),
        (0x99, 5, True, Verdict.PARK),
        (0x95, 5, True, Verdict.SPLIT),
        (0x95, 1, True, Verdict.PARK),
    ],
)
def test_verdicts(code: int, readings: int, hold: bool, expected: Verdict) -> None:
    assert verdict(code, readings, hold) is expected


@pytest.mark.parametrize("name", ["none", "gzip", "zstd"])
def test_compression(name: str) -> None:
    assert decompress(compressor(name)(b"abc" * 100), name) == b"abc" * 100


def test_client_id_is_safe_and_short() -> None:
    assert default_client_id("91370200MA3C00000K", "gw-1", "centre") == "91370200MA3C00000K-gw-1-centre"
    long = default_client_id("企业", "g" * 64, "d" * 64)
    assert len(long) == 64
    assert long.isascii()
