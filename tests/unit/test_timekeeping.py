"""The gateway's own clock: a step is told once, durably, in every stream; slewing and a slow process are no steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.contract import SystemClock
from gateway.log import LogStore, Writer
from gateway.log.records import EventRecord
from gateway.publishing import documents
from gateway.runtime import timekeeping
from gateway.runtime.timekeeping import Timekeeper, synchronised
from tests.support.logs import crash
from tests.support.subscriber import check

SECOND = 1_000_000_000


class TwoClocks:
    """Wall and monotonic time that a test moves apart."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000 * SECOND
        self.monotonic = 77 * SECOND
        self.reading_takes: list[int] = []
        """ns that pass with the next readings of the monotonic clock"""

    def time_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        if self.reading_takes:
            self.pass_ns(self.reading_takes.pop(0))
        return self.monotonic

    def pass_ns(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns


class Watched:
    def __init__(self) -> None:
        self.clock = TwoClocks()
        self.synced: bool | None = True
        self.events: list[EventRecord] = []
        self.keeper = Timekeeper(self.clock, lambda: ["S1", "S2"], self.events.extend, lambda: self.synced)
        self.keeper.look()

    def after(self, step_ns: int, seconds: float = 1.0) -> list[tuple[str, int, bool | None, str]]:
        """What is told when the clock has stepped and some time has passed."""
        self.clock.pass_ns(int(seconds * SECOND))
        self.clock.wall += step_ns
        self.events.clear()
        self.keeper.look()
        return [(e.stream, e.body["step_ns"], e.body["synchronised"], e.body["reason"]) for e in self.events]


@pytest.mark.parametrize("step", [3600 * SECOND, -3600 * SECOND, 600_000_000, -SECOND])
def test_a_step_is_told_once_in_every_stream(step: int, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    assert watched.after(0) == []
    assert watched.after(step) == [("S1", step, True, "step"), ("S2", step, True, "step")]
    assert [event.time for event in watched.events] == [watched.clock.wall] * 2
    assert watched.after(0) == []
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert f"stepped by {step / SECOND:+.3f} s" in lines[0]
    for event in watched.events:
        event.n = 0
        check(documents.event(documents.Origin("91370200MA3C00000K", "gw-1"), event))


def test_small_steps_are_told_when_they_add_up() -> None:
    watched = Watched()
    told = [watched.after(200_000_000) for _ in range(3)]
    assert told[:2] == [[], []]
    assert told[2][0] == ("S1", 600_000_000, True, "step")


def test_daemons_that_fight_over_the_clock_do_not_fill_the_log() -> None:
    watched = Watched()
    counts = [len(watched.after(SECOND * (-1) ** n)) for n in range(100)]
    assert counts[0] == 2
    assert sum(counts) <= 2 * 11


def test_what_came_within_ten_seconds_is_told_after_them() -> None:
    watched = Watched()
    assert watched.after(SECOND)
    assert watched.after(SECOND) == []
    assert watched.after(0, seconds=9)[0] == ("S1", SECOND, True, "step")


def test_a_process_that_is_held_up_sees_no_step() -> None:
    watched = Watched()
    watched.clock.reading_takes = [0, 3 * SECOND, 0, 3 * SECOND]
    assert watched.after(0) == []
    watched.clock.reading_takes = [0, 3 * SECOND] * timekeeping._TRIES
    assert watched.after(10 * SECOND) == [], "it could not be read"
    assert watched.after(0)[0][1] == 10 * SECOND, "and so it is told at the next look"


@pytest.mark.parametrize(
    ("states", "reasons"),
    [
        ((True, False, False, True), [None, "lost", None, "synchronised"]),
        ((None, False, None, True), [None, None, None, None]),
    ],
)
def test_synchronisation_lost_and_found_is_told(states: tuple[bool | None, ...], reasons: list[str | None]) -> None:
    watched = Watched()
    watched.synced = None
    watched.keeper.look()
    found = []
    for state in states:
        watched.synced = state
        told = watched.after(0)
        found.append(told[0][3] if told else None)
    assert found == reasons


async def test_the_event_is_durable(tmp_path: Path) -> None:
    store, _ = LogStore.open(tmp_path / "log", identity="box", clock=SystemClock())
    clock = TwoClocks()
    async with Writer(store, next_n={}, commit_s=0.01, clock=SystemClock(), on_commit=lambda _: None) as writer:
        keeper = Timekeeper(clock, lambda: ["S1"], writer.write_now, lambda: None)
        keeper.look()
        clock.wall -= 8 * 3600 * SECOND
        keeper.look()
        await writer.flush()
        crash(store)
        store, _ = LogStore.open(tmp_path / "log", identity="box", clock=SystemClock())
        ((record,),) = (segment.records for segment in store.read(0, 10**9))
        store.close()
    assert isinstance(record, EventRecord)
    assert record.body == {
        "schema": "clock/1",
        "step_ns": -8 * 3600 * SECOND,
        "synchronised": None,
        "reason": "step",
    }


def test_the_kernel_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert synchronised() in (True, False), "this machine's kernel answers"
    monkeypatch.setattr(timekeeping, "_kernel_status", lambda: None)
    marker = tmp_path / "synchronized"
    assert synchronised(marker) is None
    marker.touch()
    assert synchronised(marker) is True
    monkeypatch.setattr(timekeeping, "_kernel_status", lambda: 0x2040)
    assert synchronised(marker) is False
