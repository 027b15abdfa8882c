"""Windows: one value for each stretch of time, with the time at which it began."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract import ValueType
from gateway.contract.config import DerivedPointConfig
from gateway.contract.status import BAD_NO_DATA, BAD_SENSOR_FAILURE, GOOD, UNCERTAIN_DATA_SUB_NORMAL
from tests.unit.derive.test_derived import Device, Read, S, derived, readings

KINDS = ("min", "max", "mean", "last", "count")


def window(kind: str, over: str = "10s", of: str = "a", **keys: Any) -> DerivedPointConfig:
    keys = {"point": f"{of}_{kind}", "window": {"of": of, "over": over, "kind": kind}, **keys}
    return DerivedPointConfig.model_validate(keys)


def test_a_window_is_closed_by_the_first_reading_of_a_later_one() -> None:
    device = Device(*map(window, KINDS))
    assert device.offer(readings((0, 5, 100.0))) == []
    assert {read.status for read in device.offer(readings((0, 12, 3.0), (0, 15, 1.0)))} == {UNCERTAIN_DATA_SUB_NORMAL}
    assert device.offer(readings((0, 19, 2.0))) == []
    found = device.offer(readings((0, 20, 7.0)))
    assert {read.point: read.value for read in found} == {
        "a_min": 1.0, "a_max": 3.0, "a_mean": 2.0, "a_last": 2.0, "a_count": 3.0
    }  # fmt: skip
    assert {(read.time, read.status) for read in found} == {(10 * S, GOOD)}


def test_a_count_is_an_integer() -> None:
    device = Device(window("count"))
    [record] = device.records(readings((0, 1, 1.0), (0, 11, 1.0)))
    assert (record.batch.type, record.batch.values.tolist()) == (ValueType.INT64, [1])


def test_bad_readings_are_left_out_and_the_status_says_so() -> None:
    device = Device(window("mean"), window("count"))
    device.offer(readings((0, 1, 1.0), (0, 11, 1.0)))
    assert device.offer(readings((0, 12, 999.0), (0, 13, 5.0), (0, 20, 0.0), status=[BAD_SENSOR_FAILURE, 0, 0])) == [
        Read("a_mean", 10 * S, 3.0, UNCERTAIN_DATA_SUB_NORMAL),
        Read("a_count", 10 * S, 2.0, UNCERTAIN_DATA_SUB_NORMAL),
    ]
    assert device.offer(readings((0, 30, 0.0), (0, 40, 0.0), status=[BAD_SENSOR_FAILURE, 0])) == [
        Read("a_mean", 20 * S, 0.0, GOOD),
        Read("a_mean", 30 * S, None, BAD_NO_DATA),
        Read("a_count", 20 * S, 1.0, GOOD),
        Read("a_count", 30 * S, 0.0, UNCERTAIN_DATA_SUB_NORMAL),
    ]


def test_windows_of_derived_points_and_derived_points_of_windows() -> None:
    device = Device(window("max", of="twice"), derived("twice", "a * 2"), derived("peak", "twice_max + 1"))
    device.offer(readings((0, 1, 1.0), (0, 11, 4.0)))
    found = device.offer(readings((0, 12, 3.0), (0, 21, 0.0)))
    assert found[-2:] == [Read("twice_max", 10 * S, 8.0, GOOD), Read("peak", 10 * S, 9.0, GOOD)]


@pytest.mark.parametrize("over", ["500ms", "2h"])
def test_a_window_is_a_second_to_an_hour(over: str) -> None:
    with pytest.raises(ValueError, match="expected 1s to 1h"):
        window("mean", over)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e6, 1e6)), min_size=1, max_size=5), min_size=1))
def test_as_sums_over_lists(offers: list[list[tuple[int, float]]]) -> None:
    device = Device(*map(window, KINDS))
    now, model, got = 0, {}, []
    for rows in offers:
        offered = []
        for step, value in rows:
            now += step + 1
            model.setdefault(now // 10, []).append(value)
            offered.append((0, now, value))
        got += device.offer(readings(*offered))
    made = {"min": min, "max": max, "mean": np.mean, "last": lambda values: values[-1], "count": len}
    expected = {
        (f"a_{kind}", number * 10 * S): float(of(values))
        for number, values in list(model.items())[:-1]
        for kind, of in made.items()
    }
    assert {(read.point, read.time): read.value for read in got} == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert not any(read.value is None or math.isnan(read.value) for read in got)
