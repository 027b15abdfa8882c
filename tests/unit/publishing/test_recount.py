"""What waits is counted at the start from few heads, and it is the same as from all of them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.contract import SystemClock
from gateway.log import LogStore, Tail
from gateway.log.records import Segment, Series, SeriesHead, Span
from gateway.publishing.books import Books
from gateway.publishing.clearance import Rule
from gateway.publishing.ledger import DAMAGED, Ledger, Settled
from gateway.publishing.sources import LogReader, Source
from tests.support.fakelog import FakeLog, FakeState, FakeTail, define, readings, stream
from tests.support.random_log import FromHeads, RandomLog

SEEDS = range(int(os.environ.get("LOG_HISTORIES", "200")) // 100)
"""`make soak` asks for many more"""


async def loaded(log: RandomLog, reader: LogReader, state: FakeState) -> Books:
    books = Books(
        "centre", Rule(2), "oldest", Source(reader, Tail(log.store.bounds().end)), state, log.points, SystemClock()
    )
    await books.load()
    assert books.unbalanced() == {}
    return books


def settle(ledger: Ledger, store: LogStore, start: int, end: int) -> None:
    """The positions [start, end) of one range are delivered."""
    segments = [one for one in store.read(start, 10**9) if one.position < end]
    ledger.settle(end, [Settled(one.position, one.heads, damaged=one.damage is not None) for one in segments])


async def deliver_some(books: Books, log: RandomLog, draw: random.Random) -> None:
    """Live first, backlog beside it, now and then a new connection: what is left are several ranges."""
    for _ in range(3):
        log.live(2)
        books = await loaded(log, log.store, books._state)  # type: ignore[arg-type]
        ledger, end = books.ledger, log.store.bounds().end
        ledger.go_live(ledger.observed)
        log.live(4)
        heads = dict(log.store.heads(end, log.store.bounds().end))
        for position, of in heads.items():
            ledger.observe(position, of)
        for part in ledger.ranges:
            high = ledger.observed if part.end is None else part.end
            if high > part.start and draw.random() < 0.8:
                settle(ledger, log.store, part.start, draw.randrange(part.start, min(high, part.start + 40)) + 1)
        await books.save()


def counts(ledger: Ledger) -> dict[Series, Any]:
    return {series: (account, account.waiting) for series, account in ledger.accounts.items()}


def ends(ledger: Ledger) -> dict[Series, tuple[int, ...]]:
    """Of each series what was delivered and what was not: of an open stream as damaged, else as withheld or so."""
    return {
        series: (of.first_n, of.next_n, of.delivered, of.withheld + of.dropped[DAMAGED], of.waiting)
        for series, of in ledger.accounts.items()
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_books_are_the_same_as_with_all_heads(tmp_path: Path, seed: int) -> None:
    """With heads that cannot be read (every other seed), they are so once the delivery has been there."""
    draw = random.Random(seed)
    log = RandomLog(tmp_path / "log", draw)
    log.live(6)
    state = FakeState()
    await deliver_some(await loaded(log, log.store, state), log, draw)
    if draw.random() < 0.7:
        log.damage(heads=seed % 2 == 1)
    log.live(5)
    slow = await loaded(log, FromHeads(log.store), state)
    fast = await loaded(log, log.store, state)
    assert sum(of.waiting for of in fast.ledger.accounts.values()) > 0
    if not log.lost:
        assert counts(fast.ledger) == counts(slow.ledger)
    for books in (slow, fast):
        for part in books.ledger.ranges:
            settle(books.ledger, log.store, part.start, books.ledger.observed if part.end is None else part.end)
        assert books.ledger.balance() == {}
    assert ends(fast.ledger) == ends(slow.ledger)
    log.store.close()


class Asked:
    """The log as it is; how many heads it was asked for."""

    def __init__(self, store: LogStore) -> None:
        self.read, self.spans, self.bounds = store.read, store.spans, store.bounds
        self._store = store
        self.heads_asked = 0

    def heads(self, start: int, end: int) -> Iterable[tuple[int, list[SeriesHead]]]:
        found = list(self._store.heads(start, end))
        self.heads_asked += len(found)
        return found


async def test_a_start_reads_no_heads_of_what_was_counted_before(tmp_path: Path) -> None:
    log = RandomLog(tmp_path / "log", random.Random(3))
    log.live(40)
    state = FakeState()
    await (await loaded(log, log.store, state)).save()
    asked = Asked(log.store)
    again = await loaded(log, asked, state)
    assert asked.heads_asked == 0
    assert sum(of.waiting for of in again.ledger.accounts.values()) > 0
    log.store.close()


async def test_times_of_what_came_after_the_last_save_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash: the log went on, and further back than the heads that are read at once."""
    monkeypatch.setattr("gateway.publishing.books._HEADS_AT_ONCE", 3)
    log, state = FakeLog(), FakeState()
    log.append(stream(), *define())

    def books() -> Books:
        return Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), state, log.points, SystemClock())

    for k in range(4):
        log.append(readings(5, start=5 * k))
    first = books()
    await first.load()
    await first.save()
    early, late = readings(5), readings(5)
    early.batch.source_time[:] -= 10**15
    late.batch.source_time[:] += 10**15
    log.append(early)
    for k in range(8):
        log.append(readings(5, start=5 * k), readings(2, device="new"))
    log.append(late)
    again = books()
    await again.load()
    everything = books()
    everything._state = FakeState()
    await everything.load()
    assert again.ledger.to_state()["accounts"] == everything.ledger.to_state()["accounts"]
    account = again.ledger.accounts[Series("S1", "boiler-1")]
    assert account.first_time == int(early.batch.source_time.min())
    assert account.last_time == int(late.batch.source_time.max())
    assert json.dumps(again.ledger.to_state())


async def test_a_file_that_is_missing_is_lost_at_once(tmp_path: Path) -> None:
    """Nobody has to get there to find out, and a destination that is away may never do."""
    log = RandomLog(tmp_path / "log", random.Random(1))
    log.live(12)
    state = FakeState()
    await (await loaded(log, log.store, state)).save()
    for _ in range(50):
        if log.lost:
            break
        log.live(6)
        await (await loaded(log, log.store, state)).save()
        log.damage(heads=False)
    again = await loaded(log, log.store, state)
    readable = {head.series: 0 for _, heads in log.store.heads(0, log.store.bounds().end) for head in heads}
    for _, heads in log.store.heads(0, log.store.bounds().end):
        for head in heads:
            readable[head.series] += head.readings
    assert {series: of.waiting for series, of in again.ledger.accounts.items() if of.waiting} == readable
    assert sum(of.dropped[DAMAGED] for of in again.ledger.accounts.values()) == len(log.lost) > 0
    log.store.close()


class Unreadable(FakeLog):
    """Knows which offsets it held, and cannot read one of its segments, head and all."""

    damaged = 3

    def heads(self, start: int, end: int) -> list[tuple[int, list[SeriesHead]]]:
        return [one for one in super().heads(start, end) if one[0] != self.damaged]

    def spans(self, start: int, end: int) -> Iterator[Mapping[Series, Span]]:  # type: ignore[override]
        whole = FakeLog()
        whole.segments = self.segments
        yield from whole.spans(start, end)


async def test_what_cannot_be_read_waits_until_the_delivery_is_there() -> None:
    log = Unreadable()
    log.append(stream(), *define())
    for k in range(5):
        log.append(readings(5, start=5 * k))
    books = Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), FakeState(), log.points, SystemClock())
    await books.load()
    ledger = books.ledger
    (account,) = ledger.accounts.values()
    assert account.waiting == 25
    ledger.go_live(ledger.observed)

    def delivered(segment: Segment) -> None:
        unreadable = segment.position == log.damaged
        heads = [] if unreadable else segment.heads
        ledger.settle(segment.position + 1, [Settled(segment.position, heads, damaged=unreadable)])

    for segment in log.segments[:4]:
        delivered(segment)
    assert (account.waiting, account.delivered, dict(account.dropped)) == (15, 10, {})
    delivered(log.segments[4])
    assert (account.waiting, account.delivered, dict(account.dropped)) == (5, 15, {DAMAGED: 5})
    delivered(log.segments[5])
    assert (account.waiting, account.delivered, dict(account.dropped)) == (0, 20, {DAMAGED: 5})
    assert ledger.balance() == {}


async def test_what_cannot_be_read_at_the_end_of_a_backlog_does_not_wait_for_ever() -> None:
    log = Unreadable()
    log.append(stream(), *define())
    for k in range(3):
        log.append(readings(5, start=5 * k))
    books = Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), FakeState(), log.points, SystemClock())
    await books.load()
    books.ledger.go_live(books.ledger.observed)
    (account,) = books.ledger.accounts.values()
    books.ledger.settle(4, [Settled(one.position, one.heads if one.position != 3 else []) for one in log.segments])
    assert (account.waiting, account.delivered, dict(account.dropped)) == (0, 10, {DAMAGED: 5})
    assert books.ledger.balance() == {}
