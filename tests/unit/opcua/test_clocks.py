"""Clocks that are wrong are told of once, with what mends them; clocks that are right never."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding.batches import Moment
from adapters.opcua.decoding.clocks import SETTLE_S, ClockWatch
from gateway.contract import NO_TIME, Basis, Batch, Flag, ValueType

START = 1_790_000_000 * 10**9
SECOND = 10**9
HOUR = 3600
zones = st.sampled_from([half for half in range(-24, 29) if half])
"""half hours from UTC"""
rules = st.sampled_from(["trust", "server", ClockShift(shift="8h"), ClockShift(shift="-3.5h")])


class Plant:
    """A device, its server and a gateway, each with its clock (s ahead of the truth), and what is said of them."""

    def __init__(self, rule: ClockRule = "trust", seed: int = 1, **keys: Any) -> None:
        self.said: list[tuple[int, str]] = []
        self.watch = ClockWatch(rule, "p{}".format, lambda level, text: self.said.append((level, text)), **keys)
        self.shift = rule.shift if isinstance(rule, ClockShift) else 0.0
        self.random = random.Random(seed)
        self.now = 0.0
        self.device = self.server = self.gateway = 0.0

    def moment(self) -> Moment:
        return Moment(START + round((self.now + self.gateway) * SECOND), round(self.now * SECOND))

    def batch(self, stamps: Sequence[float], points: Sequence[int] | None = None, **columns: Any) -> None:
        """Readings whose source times the device gives: seconds since the start by its clock."""
        at = self.moment()
        times = START + np.round((np.array(stamps) - self.shift) * SECOND).astype(np.int64)
        self.watch.batch(
            Batch.of(
                "d", ValueType.FLOAT64, points if points is not None else [0] * len(stamps), 0.0, source_time=times,
                received_time=at.time, monotonic=at.monotonic, **columns,
            )
        )  # fmt: skip

    def look(self) -> None:
        at = self.moment()
        time = START + round((self.now + self.server) * SECOND)
        self.watch.server_time(time, Moment(at.time - 10**7, at.monotonic - 10**7), at)

    def run(self, seconds: float, *, every: float = 3.0, late: float = 0.5, look: bool = True) -> None:
        """Live readings and looks at the server's clock."""
        end = self.now + seconds
        while self.now < end:
            self.now += every
            fresh = self.now + self.device - late * self.random.random()
            self.batch([fresh - 100 * late * self.random.random(), fresh])
            if look and int(self.now) % 5 == 0:
                self.look()

    def lines(self) -> list[str]:
        return [text for _, text in self.said]


def test_local_time_is_told_once_with_what_mends_it() -> None:
    plant = Plant()
    plant.device = 8 * HOUR
    plant.run(SETTLE_S - 10)
    assert plant.said == []
    plant.run(2 * HOUR)
    ((level, text),) = plant.said
    assert level == logging.WARNING
    assert text == (
        "source times are 8.0 h ahead of this gateway's clock: the device seems to stamp local time (UTC+8) as UTC; "
        'set `clock: "shift: 8h"`, or set the device\'s clock right; '
        "the server's own clock is right, so it is what stamps the values behind it; "
        "readings are kept as they are; if other devices show the same, it is this gateway's clock that is wrong"
    )


def test_a_server_whose_own_clock_is_in_local_time_too() -> None:
    plant = Plant()
    plant.device = plant.server = -5.5 * HOUR
    plant.run(HOUR)
    (text,) = plant.lines()
    assert "source times are 5.5 h behind this gateway's clock" in text
    assert '(UTC-5:30) as UTC; set `clock: "shift: -5.5h"`' in text
    assert "the server's own clock is 5.5 h behind this gateway's" in text


def test_a_server_without_a_clock() -> None:
    plant = Plant()
    plant.device = 1 * HOUR
    plant.run(HOUR, look=False)
    (text,) = plant.lines()
    assert "the server's own clock is not known" in text


@settings(max_examples=60, deadline=None)
@given(zones, rules, st.floats(-40, 40), st.booleans(), st.sampled_from([1.0, 7.0, 60.0, 500.0]), st.integers(0, 99))
def test_every_zone_is_found_with_its_sign(
    half: int, rule: ClockRule, error: float, server_too: bool, every: float, seed: int
) -> None:
    plant = Plant(rule, seed)
    plant.device = plant.shift + half * HOUR / 2 + error
    plant.server = plant.device if server_too else 0.0
    if rule == "server":
        plant.server = plant.device
    plant.run(max(2 * SETTLE_S, 15 * every), every=every)
    (text,) = plant.lines()
    assert f"{abs(half * 1800 + error) / 3600:.1f} h {'ahead of' if half > 0 else 'behind'}" in text or "min" in text
    total = plant.shift + half * HOUR / 2
    if rule == "server":
        assert "`clock: gateway`" in text
    elif total:
        assert f'`clock: "shift: {total / HOUR:g}h"`' in text
    else:
        assert "take `clock` out" in text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.3, 40), st.floats(0, 86_400)), min_size=10, max_size=200), rules)
def test_right_clocks_are_never_called_wrong(arrivals: list[tuple[float, float]], rule: ClockRule) -> None:
    """However old some values are: now and then one is new."""
    plant = Plant(rule)
    plant.device = plant.shift
    for k in range(3):
        for wait, age in arrivals:
            plant.now += wait
            fresh = plant.now + plant.device
            plant.batch([fresh - age])
            plant.batch([fresh - 0.2, fresh - age])
            plant.look()
        assert plant.said == [], k


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 14 * HOUR), st.sampled_from([1.0, 10.0]))
def test_values_that_stand_still_are_not_a_clock(age: float, every: float) -> None:
    """A poll reads the same old source times again and again."""
    plant = Plant()
    stamps = [plant.now - age, plant.now - age - 500]
    while plant.now < 3 * SETTLE_S:
        plant.now += every
        plant.batch(stamps)
        plant.look()
    assert plant.said == []


def test_hourly_values_are_not_a_clock() -> None:
    """Stamped with the beginning of their hour, sent at its end."""
    plant = Plant()
    for hour in range(30):
        plant.now = hour * 3600.0 + 2
        plant.batch([hour * 3600.0 - 3600])
        plant.look()
    assert plant.said == []


def test_initial_and_backfilled_values_and_our_own_times_are_left_out() -> None:
    plant = Plant()
    for _ in range(1000):
        plant.now += 1
        plant.batch([plant.now - 8 * HOUR, plant.now + 8 * HOUR], flags=[Flag.INITIAL, Flag.BACKFILLED])
        plant.batch([plant.now + 8 * HOUR], basis=Basis.GATEWAY)
    assert plant.said == []
    assert plant.watch.readings_offset_s(plant.moment().monotonic) is None


def test_one_controller_of_many_gets_another_advice() -> None:
    """A shift of the whole device would put the right ones wrong."""
    plant = Plant()
    for _ in range(1000):
        plant.now += 1
        plant.batch([plant.now - 0.3, plant.now + 8 * HOUR, plant.now - 0.2], points=[1, 7, 2])
        plant.look()
    (text,) = plant.lines()
    assert "source times of some points (p7 for one) are 8.0 h ahead" in text
    assert "a shift would move the right ones too" in text
    assert 'a device of their own with `clock: "shift: 8h"`' in text


def test_a_clock_that_runs_free() -> None:
    plant = Plant()
    plant.device = plant.server = 47.0
    plant.run(HOUR)
    ((level, text),) = plant.said
    assert level == logging.WARNING
    assert "source times are 47 s ahead" in text or "source times are 46 s ahead" in text
    assert "not synchronised: check NTP at the server, at the devices behind it, and here" in text
    assert "if other devices show the same, it is this gateway's clock that is wrong" in text


def test_evenly_late_values_are_no_fault_where_the_server_is_right() -> None:
    """Means of a minute are stamped with its beginning."""
    plant = Plant()
    plant.device = -62.0
    plant.run(HOUR)
    assert plant.said == []


def test_a_calendar_that_is_wrong_is_told_although_the_server_is_right() -> None:
    plant = Plant()
    plant.device = -30 * 24.0 * HOUR
    plant.run(HOUR)
    (text,) = plant.lines()
    assert "source times are 30 days behind this gateway's clock: the two clocks are not synchronised" in text


def test_a_wrong_server_with_right_values() -> None:
    plant = Plant()
    plant.server = 8.0 * HOUR
    plant.run(HOUR)
    (text,) = plant.lines()
    assert text.startswith("the server's own clock is 8.0 h ahead of this gateway's clock, the source times")
    assert "readings without a source time carry it" in text


def test_a_wrong_server_where_nothing_comes() -> None:
    plant = Plant()
    plant.server = -300.0
    for _ in range(500):
        plant.now += 5
        plant.look()
    (text,) = plant.lines()
    assert text.startswith("the server's own clock is 300 s behind")


def test_with_the_gateways_time_nothing_is_wrong() -> None:
    plant = Plant("gateway")
    plant.server = 8.0 * HOUR
    plant.run(HOUR)
    assert plant.said == []


def test_a_shift_that_is_right_is_not_told() -> None:
    for server in (0.0, 8.0 * HOUR):
        plant = Plant(ClockShift(shift="8h"))
        plant.device, plant.server = 8.0 * HOUR, server
        plant.run(HOUR)
        assert plant.said == []


def test_a_shift_that_is_needed_no_more() -> None:
    plant = Plant(ClockShift(shift="8h"))
    plant.run(HOUR)
    (text,) = plant.lines()
    assert text.startswith("source times, after the configured shift of 8h, are 8.0 h behind")
    assert "take `clock` out of the device file" in text


def test_each_change_is_one_line_and_mending_is_one() -> None:
    plant = Plant()
    plant.device = 8.0 * HOUR
    plant.run(HOUR)
    plant.device = 9.0 * HOUR  # summer time
    plant.run(HOUR)
    plant.device = 0.0
    plant.run(HOUR)
    assert [text[:31] for text in plant.lines()] == [
        "source times are 8.0 h ahead of",
        "source times are 9.0 h ahead of",
        "source times agree with this ga",
    ]
    assert plant.said[-1][0] == logging.INFO


@pytest.mark.parametrize("limit", [5.0, 8 * HOUR + 60.0, -5.0, 47.0])
def test_an_offset_at_a_limit_is_not_told_again_and_again(limit: float) -> None:
    plant = Plant()
    for _ in range(300):
        plant.device = plant.server = limit + plant.random.uniform(-1, 1)
        plant.run(20, late=0.1)
    assert len(plant.said) <= 2


@settings(max_examples=25, deadline=None)
@given(st.floats(-12 * HOUR, 12 * HOUR).filter(lambda step: abs(step) > 20), st.booleans())
def test_our_own_step_is_not_the_servers_fault(step: float, server_known: bool) -> None:
    plant = Plant()
    plant.run(SETTLE_S * 2, look=server_known)
    plant.gateway += step
    plant.run(SETTLE_S - 10, look=server_known)
    assert plant.said == []
    plant.run(SETTLE_S * 2, look=server_known)
    (text,) = plant.lines()
    assert f"since this gateway's clock was set {'forward' if step > 0 else 'back'} by that much" in text
    assert "check this gateway's time (NTP, time zone) first" in text
    assert "shift:" not in text
    plant.gateway = 0.0
    plant.run(SETTLE_S * 3, look=server_known)
    assert len(plant.said) == 2
    assert plant.lines()[1] == "source times agree with this gateway's clock again"


def test_a_step_that_puts_our_clock_right_mends() -> None:
    plant = Plant()
    plant.gateway = -8.0 * HOUR
    plant.run(SETTLE_S * 2)
    plant.gateway = 0.0
    plant.run(SETTLE_S * 2)
    assert [text[:31] for text in plant.lines()] == [
        "source times are 8.0 h ahead of",
        "source times agree with this ga",
    ]


def test_times_that_are_not_credible_are_told_once() -> None:
    plant = Plant()
    for _ in range(100):
        plant.now += 1
        plant.batch(
            [plant.now, plant.now], points=[3, 4], basis=[0, 1], original_time=[NO_TIME, plant.random.randint(0, 9)]
        )
    plant.run(HOUR)
    assert plant.said[0][0] == logging.WARNING
    assert "not credible: p4 came with 1970-01-01T00:00:00Z" in plant.lines()[0]
    assert plant.lines()[1:] == ["all times are credible again"]


def test_times_that_are_far_ahead_may_be_our_own_fault() -> None:
    """A box without a battery begins in the past: then all devices are far ahead."""
    plant = Plant()
    plant.batch([plant.now], basis=Basis.GATEWAY, original_time=[(START + 400 * 24 * HOUR * SECOND) // 100])
    (text,) = plant.lines()
    assert text.endswith(
        "set the clock of what stamps the value; if other devices show the same, it is this gateway's "
        "clock that is wrong"
    )


def test_what_takes_the_place_of_a_time_says_nothing_of_the_source() -> None:
    plant = Plant()
    for _ in range(1000):
        plant.now += 1
        plant.batch([plant.now + 8 * HOUR], basis=Basis.SERVER, original_time=[0])
    (text,) = plant.lines()
    assert text.startswith("times that are not credible")


def test_the_offset_of_readings_is_that_before_the_shift() -> None:
    plant = Plant(ClockShift(shift="8h"))
    plant.device = 8.0 * HOUR + 2
    plant.run(100, look=False)
    assert plant.watch.readings_offset_s(plant.moment().monotonic) == pytest.approx(8 * HOUR + 2, abs=1)
    plant.now += HOUR
    assert plant.watch.readings_offset_s(plant.moment().monotonic) is None


def test_a_slow_answer_says_nothing_of_the_clock() -> None:
    plant = Plant()
    for _ in range(1000):
        plant.now += 5
        at = plant.moment()
        plant.watch.server_time(at.time + 40 * SECOND, Moment(at.time - 30 * SECOND, at.monotonic - 30 * SECOND), at)
    assert plant.said == []
