"""Requests for replays in state.db: taken up in order, progress that outlives a crash, a cancellation that wins."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.contract import SystemClock
from gateway.log import LogFullError, StateStore
from gateway.log.records import Series
from gateway.publishing.ledger import Settled
from gateway.publishing.ranges import Range
from gateway.publishing.replays import (
    KEPT,
    Replay,
    Replays,
    Request,
    Shown,
    all_replays,
    cancel,
    outcome,
    put_request,
)
from gateway.publishing.selection import Selection

SERIES = Series("S1", "boiler-1")


class Store:
    """The real state.db; a test may let writes fail, or come in between."""

    def __init__(self, path: Path) -> None:
        self.inner = StateStore(path)
        self.full = False
        self.before_write: Any = None

    def get(self, key: str) -> tuple[int, Any] | None:
        return self.inner.get(key)

    def items(self, prefix: str) -> Iterator[tuple[str, int, Any]]:
        return self.inner.items(prefix)

    def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
        if self.full:
            raise LogFullError("the disk is full")
        between, self.before_write = self.before_write, None
        if between is not None:
            between()
        return self.inner.put_many(changes)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.inner.close()


def request(destination: str = "centre", first: int = 10, end: int = 20, readings: int = 100) -> Request:
    selection = Selection(0, 10**9, devices=frozenset(["boiler-1"]))
    return Request(destination, selection, first, end, readings, 1_763_700_000_000_000_000, "engineer")


def replays(state: Store, destination: str = "centre", save_s: float = 0.0) -> Replays:
    return Replays(destination, lambda: [Range(0, 12), Range(19, None)], state, SystemClock(), save_s)


def settle(replay: Replay, end: int, sent: int, refused: int = 0, **counts: int) -> None:
    replay.handed(Counter(sent=sent, **counts))
    replay.settle(end, [Settled(end - 1, [], {SERIES: refused})])


def stored(state: Store, id: int) -> dict[str, Any]:
    found = state.get(f"replay/{id:08}")
    assert found is not None
    return dict(found[1])


async def test_from_the_request_to_the_end(state: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked = put_request(state, request())
    put_request(state, request("cloud"))
    known = replays(state)
    assert known.shown() == Shown()
    await known.look()
    replay = await known.next()
    assert (replay.id, replay.request, replay.at) == (asked.id, asked.request, 10)
    assert (replay.undelivered, known.shown()) == ([Range(10, 12), Range(19, 20)], Shown(1, 100, 0))
    assert stored(state, 1)["undelivered"] == [[10, 12], [19, 20]], "told to the next process too, at once"
    await known.begun(replay)
    assert stored(state, 1)["state"] == "running", "begun once, whatever happens now"
    settle(replay, 15, 40, withheld=3)
    assert known.shown() == Shown(1, 57, 40)
    await known.look()
    assert (stored(state, 1)["state"], stored(state, 1)["at"], stored(state, 1)["counts"]["sent"]) == (
        "running",
        15,
        40,
    )
    settle(replay, 20, 50, refused=2, waiting=5)
    assert replay.over.is_set()
    await known.ended(replay)
    assert known.shown() == Shown(0, 0, 88)
    assert stored(state, 1)["state"] == "done"
    assert stored(state, 2)["state"] == "waiting", "the other destination's is not ours"
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "destination centre: replay 1 begins: 100 readings of boiler-1, 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z "
        "(source time), asked for by engineer",
        "destination centre: replay 1 is done: 88 of 100 sent again; 3 withheld, the clearance does not allow them; "
        "5 not delivered before, they go in lanes live and backlog; 2 refused by the broker; "
        "2 no longer in the log, or damaged there",
    ]


async def test_the_next_process_goes_on_where_the_last_one_saved(
    state: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put_request(state, request())
    killed = replays(state)
    await killed.look()
    replay = await killed.next()
    await killed.begun(replay)
    settle(replay, 14, 30)
    await killed.look()
    settle(replay, 16, 20)  # not saved any more
    again = Replays("centre", list, state, SystemClock(), 0.0)
    await again.look()
    replay = await again.next()
    assert (replay.at, replay.counts["sent"], again.shown()) == (14, 30, Shown(1, 70, 0))
    assert replay.undelivered == [Range(10, 12), Range(19, 20)], "as it was when it was first heard of"
    await again.begun(replay)
    settle(replay, 20, 70)
    await again.ended(replay)
    assert stored(state, 1)["counts"]["sent"] == 100
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " replay 1 begins", " replay 1 goes on", " replay 1 is done"
    ]  # fmt: skip


async def test_a_new_connection_hands_over_again_what_was_not_acknowledged(state: Store) -> None:
    put_request(state, request())
    known = replays(state)
    await known.look()
    replay = await known.next()
    replay.handed(Counter(sent=60))
    replay.begin()
    settle(replay, 20, 100)
    assert (replay.counts["sent"], replay.missing) == (100, 0)


async def test_progress_is_not_written_more_often_than_it_may(state: Store) -> None:
    put_request(state, request())
    known = replays(state, save_s=3600)
    await known.look()
    replay = await known.next()
    settle(replay, 15, 40)
    await known.look()
    settle(replay, 16, 10)
    await known.look()
    assert stored(state, 1)["at"] in (10, 15)
    await known.look(save=True)
    assert stored(state, 1)["at"] == 16


@pytest.mark.parametrize("moment", ["before", "between"])
async def test_a_cancellation_is_never_written_over(
    state: Store, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    caplog.set_level(logging.INFO)
    put_request(state, request())
    put_request(state, request())
    known = replays(state)
    await known.look()
    replay = await known.next()
    await known.begun(replay)
    settle(replay, 15, 40)

    def by_hand() -> None:
        cancelled = cancel(state, 1, 7)
        assert cancelled is not None
        assert cancelled.state == "cancelled"

    if moment == "before":
        by_hand()
    else:
        state.before_write = by_hand
    await known.look()
    assert replay.over.is_set(), "whoever sends it stops"
    found = stored(state, 1)
    assert (found["state"], found["at"], found["counts"]["sent"], found["ended"]) == ("cancelled", 15, 40, 7)
    assert "replay 1 was cancelled: 40 of 100 sent again" in caplog.text
    assert (await known.next()).id == 2
    await known.ended(replay)
    assert stored(state, 1)["state"] == "cancelled"
    assert known.shown() == Shown(1, 100, 40)


async def test_one_that_is_cancelled_the_moment_it_is_heard_of(state: Store) -> None:
    """Whoever comes in between must not end the gateway."""
    put_request(state, request())
    put_request(state, request())
    known = replays(state)
    state.before_write = lambda: cancel(state.inner, 1, 7)
    await known.look()
    await known.look()
    assert (await known.next()).id == 2
    assert stored(state, 1)["state"] == "cancelled"


def test_only_what_is_open_can_be_cancelled(state: Store) -> None:
    put_request(state, request())
    first = cancel(state, 1, 7)
    again = cancel(state, 1, 9)
    assert (first and first.ended, again and again.ended) == (7, 7)
    assert cancel(state, 2, 7) is None


def test_two_who_ask_at_the_same_moment_get_two_replays(state: Store) -> None:
    state.before_write = lambda: put_request(state.inner, request("cloud"))
    assert put_request(state, request()).id == 2
    assert [(one.id, one.request.destination) for one in all_replays(state)] == [(1, "cloud"), (2, "centre")]


async def test_those_that_ended_long_ago_go(state: Store) -> None:
    for _ in range(KEPT + 5):
        put_request(state, request())
    put_request(state, request("cloud"))
    known = replays(state)
    for _ in range(KEPT + 5):
        await known.look()
        replay = await known.next()
        settle(replay, 20, 100)
        await known.ended(replay)
    left = [one.id for one in all_replays(state) if one.request.destination == "centre"]
    assert left == list(range(6, KEPT + 6))
    assert put_request(state, request()).id == KEPT + 7, "a number is not given twice"


async def test_a_full_disk_delays_the_last_word_and_nothing_else(
    state: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put_request(state, request())
    put_request(state, request())
    known = replays(state)
    await known.look()
    replay = await known.next()
    state.full = True
    settle(replay, 20, 100)
    await known.ended(replay)
    assert known.shown() == Shown(1, 100, 100)
    state.full = False
    await known.look()
    assert stored(state, 1)["state"] == "done"
    assert (await known.next()).id == 2
    assert caplog.text.count("is done") == 1


def test_the_outcome_counts_what_is_missing_only_in_the_end() -> None:
    replay = Replay(1, request(), counts=Counter(sent=10))
    assert outcome(replay) == "10 of 100 sent again"
    replay.state = "done"
    assert outcome(replay).endswith("90 no longer in the log, or damaged there")
