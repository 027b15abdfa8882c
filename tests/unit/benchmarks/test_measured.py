"""The plant-like values of B9: what was said of them holds, and the receiver knows which can be a point's."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.load import measured
from benchmarks.load.modbus_devices import SLOTS, shift_of
from benchmarks.receive.values import ValueCheck

SECONDS = (0, 1, 59, 3_600, 86_399)
SINGLE = np.arange(SLOTS)
DOUBLE = measured.DOUBLES + np.arange(500)


def shown(points: np.ndarray, second: int) -> np.ndarray:
    values = measured.shown(second, points)
    return values.astype(np.float32).astype(np.float64) if points[0] < measured.DOUBLES else values


@pytest.mark.parametrize("points", [SINGLE, DOUBLE], ids=["float32", "double"])
def test_what_is_shown_can_be_shown_and_what_another_point_shows_mostly_not(points: np.ndarray) -> None:
    for second in SECONDS:
        values = shown(points, second)
        assert not measured.wrong_readings(points, values).any()
        assert measured.wrong_readings(np.roll(points, 1), values).mean() > 0.8
        transmitters = points % 20 < 14
        changed = np.where(transmitters, values * 1.001 + 1e-3, values)
        assert measured.wrong_readings(points, changed)[transmitters].mean() > 0.7


def test_of_twenty_points_three_are_constant_two_count_up_and_fourteen_are_noisy() -> None:
    seconds = np.array([measured.shown(second, DOUBLE) for second in range(600)])
    distinct = np.array([len(np.unique(column)) for column in seconds.T])
    kind = DOUBLE % 20
    assert (distinct[(kind >= 14) & (kind < 17)] == 1).all()
    totals = seconds[:, (kind >= 17) & (kind < 19)]
    assert (np.diff(totals, axis=0) >= 0).all()
    assert (np.ptp(totals, axis=0) >= 0.05 * 599 * 0.99).all()
    assert (distinct[kind == 19] <= 2).all()
    assert (distinct[kind < 14] >= 3).all()
    assert (np.ptp(seconds[:, kind < 14], axis=0) > 0).all()


def test_half_of_the_transmitters_have_twelve_bits() -> None:
    first = DOUBLE[(DOUBLE % 20 < 14) & (DOUBLE % 2 == 1)]
    seconds = np.array([measured.shown(second, first) for second in range(400)])
    for point, column in zip(first.tolist(), seconds.T, strict=True):
        steps = np.diff(np.unique(column))
        bits = (12, 14, 12, 16)[point % 4]
        span = (1.6, 10.0, 100.0, 150.0, 250.0, 400.0, 6.3, 1200.0)[point // 4 % 8]
        assert steps.min() == pytest.approx(span / (2**bits - 1), rel=0.0011)


def test_the_receiver_checks_them() -> None:
    opcua = ValueCheck("measured")
    items = np.arange(500)
    opcua.check(items, measured.shown(7, measured.DOUBLES + items).tolist(), follow=False)
    assert (opcua.checked, opcua.wrong) == (500, 0)
    opcua.check(items[::-1], measured.shown(7, measured.DOUBLES + items).tolist(), follow=False)
    assert opcua.wrong > 300
    modbus = ValueCheck("modbus-measured")
    slots = (np.arange(100) + shift_of(3)) % SLOTS
    assert [modbus.item("m3", number) for number in range(100)] == slots.tolist()
    modbus.check(slots, measured.shown(7, slots).astype(np.float32).astype(float).tolist(), follow=False)
    assert (modbus.checked, modbus.wrong) == (100, 0)
