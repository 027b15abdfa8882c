"""Books: what is saved is known, whatever happens while it is saved."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from gateway.contract import SystemClock
from gateway.publishing.books import Books
from gateway.publishing.clearance import Rule
from gateway.publishing.sources import Source
from tests.support.fakelog import FakeLog, FakeState, FakeTail, define, readings, stream


class SlowState(FakeState):
    """A write takes until the test lets it end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
        self.begun.set()
        self.go_on.wait(10)
        return super().put_many(changes)


async def test_a_save_that_is_cancelled_halfway_is_followed_by_one_that_works() -> None:
    """A stop comes at any moment; the write goes on in its thread, and the last one must know its version."""
    log, state = FakeLog(), SlowState()
    log.append(stream(), *define())
    books = Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), state, log.points, SystemClock())
    await books.load()
    saving = asyncio.create_task(books.save())
    await asyncio.to_thread(state.begun.wait, 10)
    saving.cancel()
    await asyncio.sleep(0)
    state.go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await saving
    log.append(readings(5))
    await books.follow()
    await books.save()
    found = state.get("destination/centre")
    assert found is not None
    assert found[0] == 2
    assert found[1]["accounts"][0][3] == 5


async def test_what_left_the_log_while_a_destination_was_away_is_counted_as_trimmed() -> None:
    """It was taken out of the config and put back: what was accepted and trimmed meanwhile was never damaged."""
    log, state = FakeLog(), FakeState()
    log.append(stream(), *define())
    log.append(readings(5))

    def books() -> Books:
        return Books("centre", Rule(1), "oldest", Source(log, FakeTail(log)), state, log.points, SystemClock())

    before = books()
    await before.load()
    await before.save()
    log.append(readings(7, start=5))
    log.append(readings(3, start=12))
    log.first = 3
    again = books()
    await again.load()
    (account,) = again.ledger.accounts.values()
    assert (account.accepted, account.waiting, dict(account.dropped)) == (15, 3, {"trimmed": 12})
    assert again.unbalanced() == {}
