"""Fixed rates: the base time is kept, missed cycles are counted and never made up for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.poll import epoch_offset_ns
from adapters.modbus.schedule import Lateness, Pacer, Schedule, stagger_ns


def test_due_order_and_base_time() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("slow", 5, 100)
    schedule.add("fast", 0, 10)
    assert schedule.next_due_ns() == 0
    assert schedule.take(3) == ("fast", 0, 10)
    assert schedule.take(3) is None
    assert schedule.done("fast", 0, 10, 4) == 0
    assert schedule.next_due_ns() == 5
    assert schedule.take(10) == ("slow", 5, 100)
    assert schedule.take(10) == ("fast", 10, 10)
    assert schedule.next_due_ns() is None


def test_late_cycle_is_run_and_overtaken_ones_are_missed() -> None:
    schedule: Schedule[str] = Schedule()
    assert schedule.done("a", 0, 10, 15) == 0
    assert schedule.next_due_ns() == 10
    schedule.take(15)
    assert schedule.done("a", 10, 10, 45) == 2
    assert schedule.next_due_ns() == 40


@given(st.integers(1, 100), st.lists(st.integers(0, 1000), max_size=50))
def test_cycles_and_missed_cycles_add_up(period: int, durations: list[int]) -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0, period)
    now = missed = 0
    for run, duration in enumerate(durations):
        now = max(now, schedule.next_due_ns() or 0)
        taken = schedule.take(now)
        assert taken == ("a", (run + missed) * period, period)
        assert now - taken[1] < 2 * period
        now += duration
        missed += schedule.done("a", taken[1], period, now)


def test_pacer() -> None:
    pacer = Pacer(10)
    assert [pacer.reserve(0) for _ in range(3)] == [0, 100_000_000, 200_000_000]
    assert pacer.reserve(10**9) == 0
    assert pacer.reserve(10**9) == 100_000_000


def test_stagger_spreads_and_is_stable() -> None:
    starts = {stagger_ns(f"device-{n}", 500_000_000) for n in range(100)}
    assert len(starts) == 100
    assert all(0 <= start < 500_000_000 for start in starts)
    assert stagger_ns("x", 3600 * 10**9) < 10**9
    assert stagger_ns("x", 10**9) == stagger_ns("x", 10**9)


def test_the_worst_lateness_is_told_for_ten_seconds_at_least_and_for_twenty_at_most() -> None:
    lateness, second_ns = Lateness(), 10**9
    begun = 1_000 * second_ns
    assert lateness.worst_ns(begun) == 0
    lateness.add(5, begun)
    lateness.add(3, begun + second_ns)
    assert lateness.worst_ns(begun + 10 * second_ns) == 5
    lateness.add(2, begun + 11 * second_ns)
    assert lateness.worst_ns(begun + 19 * second_ns) == 5
    assert lateness.worst_ns(begun + 20 * second_ns) == 2
    assert lateness.worst_ns(begun + 60 * second_ns) == 0


class Interrupted:
    """Clocks 1000 s apart that take 100 ns to look at; some looks are followed by a pause."""

    def __init__(self, pauses_ns: dict[int, int]) -> None:
        self._pauses_ns = pauses_ns
        self._looks = 0
        self._now_ns = 0

    def _look(self) -> int:
        now_ns = self._now_ns
        self._looks += 1
        self._now_ns += 100 + self._pauses_ns.get(self._looks, 0)
        return now_ns

    def monotonic_ns(self) -> int:
        return self._look()

    def time_ns(self) -> int:
        return self._look() + 1_000_000_000_000


@pytest.mark.parametrize("look", range(1, 7))
def test_an_interruption_between_two_clocks_is_no_step_of_time(look: int) -> None:
    offset_ns = epoch_offset_ns(Interrupted({look: 9_000_000}))
    assert abs(offset_ns - 1_000_000_000_000) < 1_000
