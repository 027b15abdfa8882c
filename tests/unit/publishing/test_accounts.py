"""Accounts are drawn up on time, connected or not, and none is lost by an outage, a restart or a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.contract import SystemClock
from gateway.log.errors import LogFullError
from gateway.publishing import documents
from gateway.publishing.accounts import MOST_KEPT, Accounts, Period
from gateway.publishing.books import Books
from gateway.publishing.clearance import Rule
from gateway.publishing.documents import Origin
from gateway.publishing.sources import Source
from gateway.rfc3339 import rfc3339
from tests.support.fakelog import FakeLog, FakeState, FakeTail, define, readings, stream

HOUR = 3600 * 10**9
START = int(datetime(2026, 11, 20, 8, 30, tzinfo=UTC).timestamp()) * 10**9


class Clock(SystemClock):
    now = START

    def time_ns(self) -> int:
        return self.now


class Box:
    """The accounts of a destination; as often as a process begins."""

    def __init__(self, state: FakeState | None = None) -> None:
        self.clock = Clock()
        self.state = state or FakeState()
        self.log = FakeLog()
        self.log.append(stream(), *define())
        self.log.append(readings(5))

    async def start(self) -> Accounts:
        log = self.log
        books = Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), self.state, log.points, self.clock)
        await books.load()

        def draw(number: int, period: Period) -> documents.Document:
            until = books.complete_until()
            return documents.account(Origin("E", "g"), "centre", books.ledger, number, self.clock.now, *period, until)

        accounts = Accounts("centre", 3600, UTC, books, self.state, self.clock, draw)
        await accounts.load()
        return accounts

    async def pass_hours(self, accounts: Accounts, count: int) -> None:
        """Let the clock go on while the accounts are watched."""
        for _ in range(count):
            self.clock.now += HOUR
            await self.watch(accounts)

    async def watch(self, accounts: Accounts) -> None:
        """Until the account of the last full hour is there."""
        accounts.drawn.clear()
        task = asyncio.create_task(accounts.run())
        expected = ("hour", rfc3339(self.clock.now // HOUR * HOUR)[8:13])

        there = False
        while not there:
            await asyncio.wait_for(accounts.drawn.wait(), 20)
            accounts.drawn.clear()
            there = expected in await periods(accounts)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def periods(accounts: Accounts) -> list[tuple[str, str]]:
    return [(kept.document["period"], kept.document["to"][8:13]) for kept in await accounts.waiting()]


async def test_every_period_is_kept_until_it_is_taken_whoever_is_connected() -> None:
    box = Box()
    accounts = await box.start()
    await box.pass_hours(accounts, 2)
    assert await periods(accounts) == [("hour", "20T09"), ("hour", "20T10")]
    first, second = await accounts.waiting()
    assert first.document["entries"][0]["accepted"] == 5
    await accounts.taken(first)
    again = await box.start()
    assert await again.waiting() == [second], "a restart keeps what was not taken"


async def test_a_period_that_ended_while_the_gateway_stood_is_accounted_for_at_the_next_start() -> None:
    box = Box()
    accounts = await box.start()
    await box.pass_hours(accounts, 1)
    box.clock.now += HOUR // 4
    await accounts.close()
    await accounts.close()
    assert await periods(accounts) == [("hour", "20T09"), ("close", "20T09")]
    box.clock.now += 20 * HOUR
    later = await box.start()
    await box.watch(later)
    found = await periods(later)
    assert found[2:] == [("day", "21T00"), ("hour", "21T05")], "the latest of each kind: the counts are totals"
    (document,) = [kept.document for kept in await later.waiting() if kept.document["period"] == "day"]
    assert (document["from"], document["to"]) == ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")
    assert document["time"] == "2026-11-21T05:45:00Z", "drawn up late, and says so"


async def test_numbers_count_up_though_the_clock_is_put_back_or_the_store_is_lost() -> None:
    box = Box()
    accounts = await box.start()
    await box.pass_hours(accounts, 1)
    box.clock.now -= 3 * HOUR
    later = await box.start()
    await later.close()
    before, after = await later.waiting()
    assert before.document["time"] > after.document["time"]
    assert before.document["number"] < after.document["number"]
    box.clock.now += 4 * HOUR
    anew = Box()
    anew.clock.now = box.clock.now
    lost = await anew.start()
    await lost.close()
    (first,) = await lost.waiting()
    assert first.document["number"] > after.document["number"]


async def test_a_long_outage_keeps_the_newest_of_each_kind() -> None:
    box = Box()
    accounts = await box.start()
    await box.pass_hours(accounts, 60)
    found = await periods(accounts)
    hours = [end for kind, end in found if kind == "hour"]
    assert len(hours) == MOST_KEPT["hour"]
    assert hours[-1] == "22T20"
    assert [end for kind, end in found if kind == "day"] == ["21T00", "22T00"]


async def test_a_full_disk_keeps_accounts_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    class FullState(FakeState):
        full = True

        def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
            if self.full:
                raise LogFullError("no space left")
            return super().put_many(changes)

    state = FullState()
    box = Box(state)
    accounts = await box.start()
    await box.pass_hours(accounts, 2)
    assert "cannot be saved" in caplog.text
    assert await periods(accounts) == [("hour", "20T09"), ("hour", "20T10")]
    await accounts.taken((await accounts.waiting())[0])
    assert await periods(accounts) == [("hour", "20T10")]
    state.full = False
    await box.pass_hours(accounts, 1)
    assert await periods(await box.start()) == [("hour", "20T10"), ("hour", "20T11")]


def test_a_large_account_comes_in_parts() -> None:
    entries = [{"device": f"d{k}", "accepted": k} for k in range(100)]
    account = {"schema": "account/1", "time": "2026-11-20T08:00:00Z", "entries": entries}
    assert documents.in_parts(account, 100_000) == [account]
    parts = documents.in_parts(account, 500)
    assert [entry for part in parts for entry in part["entries"]] == entries
    assert [part["part"] for part in parts] == list(range(len(parts)))
    assert {part["parts"] for part in parts} == {len(parts)}
    assert max(len(documents.encode(part)) for part in parts) <= 500
    assert len(documents.in_parts(account, 10)) == 100, "an entry is never cut"
