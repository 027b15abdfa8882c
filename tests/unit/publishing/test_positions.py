"""Where a destination begins, where it goes on after a restart, and how its account ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pytest

from gateway.contract import SystemClock
from gateway.log import StateStore
from gateway.publishing.books import Books
from gateway.publishing.clearance import Rule
from gateway.publishing.removed import end_accounts
from gateway.publishing.sources import Source
from tests.support.fakelog import NOW, FakeLog, FakeTail, define, readings, stream

SECOND = 1_000_000_000


def filled(segments: int) -> FakeLog:
    """Segment k (from 1 on) holds ten readings, one every ms from NOW + (k - 1) s on."""
    log = FakeLog()
    log.append(stream(), *define())
    for k in range(segments):
        record = readings(10, start=k * 10)
        record.batch.source_time[:] += k * SECOND
        log.append(record)
    return log


def books(log: FakeLog, state: StateStore, start: Literal["oldest", "now"] | int = "oldest") -> Books:
    return Books("centre", Rule(1), start, Source(log, FakeTail(log)), state, log.points, SystemClock())


@pytest.mark.parametrize(
    ("start", "first", "waiting"),
    [
        ("oldest", 0, 50),
        ("now", 6, 0),
        (NOW - SECOND, 1, 50),
        (NOW + 2 * SECOND, 3, 30),
        (NOW + 2 * SECOND + 9_000_000, 3, 30),
        (NOW + 2 * SECOND + 9_000_001, 4, 20),
        (NOW + 99 * SECOND, 6, 0),
    ],
)
async def test_a_new_destination_begins_where_it_is_told(
    tmp_path: Path, start: Literal["oldest", "now"] | int, first: int, waiting: int
) -> None:
    log, state = filled(5), StateStore(tmp_path / "state.db")
    begun = books(log, state, start)
    await begun.load()
    assert begun.ledger.ranges.first == first
    await begun.follow()
    assert sum(account.waiting for account in begun.ledger.accounts.values()) == waiting
    assert begun.unbalanced() == {}
    state.close()


async def test_a_restart_goes_on_and_asks_no_more_where_to_begin(tmp_path: Path) -> None:
    log, state = filled(5), StateStore(tmp_path / "state.db")
    begun = books(log, state, NOW + 2 * SECOND)
    await begun.load()
    await begun.save()
    state.close()
    log.append(readings(10, start=50))
    state = StateStore(tmp_path / "state.db")
    for start in ("oldest", "now"):
        again = books(log, state, start)
        await again.load()
        await again.follow()
        (account,) = again.ledger.accounts.values()
        assert (again.ledger.ranges.first, account.first_n, account.waiting) == (3, 20, 40)
    state.close()


async def test_a_removed_destination_ends_its_account_once_and_may_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log, state = filled(5), StateStore(tmp_path / "state.db")
    begun = books(log, state)
    await begun.load()
    await begun.follow()
    begun.ledger.settle(3, [])
    begun.ledger.accounts[next(iter(begun.ledger.accounts))].delivered += 20
    begun.ledger.accounts[next(iter(begun.ledger.accounts))].waiting -= 20
    await begun.save()
    end_accounts(state, {"centre"}, NOW)
    assert caplog.messages == [], "it is there"
    end_accounts(state, {"other"}, NOW)
    (line,) = caplog.messages
    assert "destination centre: no longer configured, its account ends: accepted 50, delivered 20, never" in line
    assert "never delivered 30, parked 0, withheld 0, dropped 0" in line
    state.close()
    state = StateStore(tmp_path / "state.db")
    caplog.clear()
    end_accounts(state, {"other"}, NOW + SECOND)
    assert caplog.messages == [], "told once, not at every start"
    log.first = 5
    again = books(log, state)
    await again.load()
    assert "configured again, it goes on where it ended" in caplog.text
    (account,) = again.ledger.accounts.values()
    assert (account.accepted, account.delivered, account.waiting, dict(account.dropped)) == (
        50,
        20,
        10,
        {"trimmed": 20},
    )
    await again.save()
    caplog.clear()
    end_accounts(state, set(), NOW + SECOND)
    assert len(caplog.messages) == 1, "the second time it goes is told too"
    state.close()
