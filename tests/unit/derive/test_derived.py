"""Derived points on whole columns: the same as a model that goes through the readings one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract import Basis, Batch, DeviceConfig, Flag, PointConfig, ValueType
from gateway.contract.config import DerivedPointConfig
from gateway.contract.status import (
    BAD_NO_DATA,
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    BAD_TYPE_MISMATCH,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
)
from gateway.derive.rows import widened
from gateway.derive.stage import stage_of
from gateway.log.records import BatchRecord
from gateway.points.registry import PointDefinition
from tests.unit.test_normaliser import GRADE_2, Bench, batch, define

S = 1_000_000_000


class Read(NamedTuple):
    point: str
    time: int
    value: float | None
    status: int


def derived(point: str, expression: str, **keys: Any) -> DerivedPointConfig:
    return DerivedPointConfig.model_validate({"point": point, "expression": expression, **keys})


class Device:
    """Points a, b, c that are read, and derived ones."""

    def __init__(self, *configs: DerivedPointConfig) -> None:
        self.bench = Bench()
        read = [define(name) for name in "abc"]
        self.bench.bind(*read, *(PointDefinition(config, GRADE_2, None) for config in configs))
        self.names = {index: record.point for index, record in self.bench.table.points("d").items()}
        config = DeviceConfig(
            device="d", adapter="test", points=[PointConfig(point=name) for name in "abc"], derived=configs
        )
        stage = stage_of(config, self.bench.table, self.bench.registry)
        assert stage is not None
        self.stage = stage

    def records(self, *batches: Batch) -> list[BatchRecord]:
        stream = self.bench.table.points("d")[0].stream
        return list(self.stage.records([BatchRecord(stream, each) for each in batches]))[len(batches) :]

    def offer(self, *batches: Batch) -> list[Read]:
        """What is derived from an offer, in the order of points and times."""
        found = []
        for record in self.records(*batches):
            columns = record.batch
            for row in range(len(columns)):
                value = float(columns.values[row]) if columns.valid[row] else None
                name = self.names[int(columns.points[row])]
                found.append(Read(name, int(columns.source_time[row]), value, int(columns.status[row])))
        return found


def readings(*rows: tuple[int, int, float], status: Sequence[int] | int = 0, **columns: Any) -> Batch:
    """(point, s, value) each."""
    points, times, values = zip(*rows, strict=True)
    times = [time * S for time in times]
    return batch(ValueType.FLOAT64, points, values, source_time=times, status=status, **columns)


def test_one_result_for_each_time_of_the_newest_operands_the_others_held() -> None:
    device = Device(derived("delta", "(a - b) * 1000"))
    assert device.offer(readings((0, 1, 5.0), (1, 1, 2.0))) == [Read("delta", 1 * S, 3000.0, GOOD)]
    assert device.offer(readings((0, 2, 6.0), (0, 3, 7.0))) == [
        Read("delta", 2 * S, 4000.0, GOOD),
        Read("delta", 3 * S, 5000.0, GOOD),
    ]
    # What comes late for one operand is computed with what the other has, at the time of the newer one.
    assert device.offer(readings((1, 2, 1.0))) == [Read("delta", 3 * S, 6000.0, GOOD)]
    assert device.offer(readings((2, 9, 1.0))) == []


def test_mixed_types_of_one_offer_are_aligned_and_bools_and_integers_count() -> None:
    device = Device(derived("x", "a * b + c"), derived("high", "x > 10"))
    found = device.records(
        batch(ValueType.UINT64, [0], [3], source_time=[S]),
        batch(ValueType.BOOL, [1], [True], source_time=[S]),
        batch(ValueType.FLOAT32, [2], [8.0], source_time=[S]),
    )
    assert [(record.batch.type, record.batch.values.tolist()) for record in found] == [
        (ValueType.FLOAT64, [11.0]),
        (ValueType.BOOL, [True]),
    ]
    assert {record.stream for record in found} == {device.bench.table.points("d")[3].stream}


def test_the_status_is_the_worst_of_the_operands() -> None:
    device = Device(derived("sum", "a + b"))
    uncertain, bad = UNCERTAIN_SUBSTITUTE | 0x480, BAD_SENSOR_FAILURE
    assert device.offer(readings((0, 1, 1.0), (1, 1, 1.0), status=[GOOD, uncertain])) == [
        Read("sum", S, 2.0, UNCERTAIN_SUBSTITUTE)
    ]
    assert device.offer(readings((0, 2, 1.0), status=[bad])) == [Read("sum", 2 * S, None, bad)]
    assert device.offer(readings((0, 3, 1.0), status=[UNCERTAIN_LAST_USABLE])) == [
        Read("sum", 3 * S, 2.0, UNCERTAIN_LAST_USABLE)
    ]


def test_an_operand_that_never_came_is_awaited() -> None:
    device = Device(derived("sum", "a + b", max_age="1s"))
    assert device.offer(readings((0, 1, 1.0))) == [Read("sum", S, None, BAD_WAITING_FOR_INITIAL_DATA)]


def test_an_operand_older_than_max_age_makes_the_result_bad() -> None:
    device = Device(derived("sum", "a + b", max_age="10s"))
    device.offer(readings((0, 1, 1.0), (1, 1, 2.0)))
    assert device.offer(readings((0, 11, 1.0), (0, 12, 1.0))) == [
        Read("sum", 11 * S, 3.0, GOOD),
        Read("sum", 12 * S, None, BAD_NO_DATA),
    ]
    # Old from the other's point of view too: what comes late is as old as it is.
    assert device.offer(readings((1, 1, 2.0))) == [Read("sum", 12 * S, None, BAD_NO_DATA)]
    assert device.offer(readings((1, 2, 2.0))) == [Read("sum", 12 * S, 3.0, GOOD)]


@pytest.mark.parametrize("values", [(1.0, 0.0), (math.nan, 1.0), (math.inf, 1.0), (1.7e308, 1e-300)])
def test_what_is_no_finite_number_is_out_of_range(values: tuple[float, float]) -> None:
    device = Device(derived("ratio", "a / b"))
    found = device.offer(readings((0, 1, values[0]), (1, 1, values[1])))
    assert found == [Read("ratio", S, None, BAD_OUT_OF_RANGE)]


def test_an_operand_without_a_value_and_one_that_is_no_number() -> None:
    device = Device(derived("sum", "a + b"))
    assert device.offer(readings((0, 1, 1.0), (1, 1, 2.0), valid=[True, False])) == [Read("sum", S, None, BAD_NO_DATA)]
    text = np.array(["on"], object)
    assert device.offer(batch(ValueType.STRING, [1], text, source_time=[2 * S])) == [
        Read("sum", 2 * S, None, BAD_TYPE_MISMATCH)
    ]


def test_a_part_that_does_not_exist_does_no_harm_where_it_is_not_chosen() -> None:
    device = Device(derived("efficiency", "a / b if b > 0 else 0"))
    assert device.offer(readings((0, 1, 1.0), (1, 1, 0.0))) == [Read("efficiency", S, 0.0, GOOD)]


def test_derived_of_derived_are_computed_in_order_whatever_the_order_in_the_file() -> None:
    device = Device(derived("z", "y + 1"), derived("y", "x * 2"), derived("x", "a + 1"))
    assert device.offer(readings((0, 1, 1.0))) == [
        Read("x", S, 2.0, GOOD),
        Read("y", S, 4.0, GOOD),
        Read("z", S, 5.0, GOOD),
    ]


def test_late_and_backfilled_readings_change_nothing() -> None:
    device = Device(derived("twice", "a * 2"))
    device.offer(readings((0, 5, 1.0)))
    assert device.offer(readings((0, 4, 9.0))) == []
    assert device.offer(readings((0, 6, 9.0), flags=int(Flag.BACKFILLED))) == []
    assert device.offer(readings((0, 7, 2.0))) == [Read("twice", 7 * S, 4.0, GOOD)]


def test_the_result_has_the_worst_clock_and_says_that_it_was_maintenance() -> None:
    device = Device(derived("sum", "a + b"))
    [record] = device.records(
        readings((0, 1, 1.0), flags=int(Flag.MAINTENANCE | Flag.INITIAL)),
        readings((1, 1, 1.0), basis=Basis.GATEWAY),
    )
    assert record.batch.flags.tolist() == [Flag.MAINTENANCE]
    assert record.batch.basis.tolist() == [Basis.GATEWAY]
    assert record.batch.received_time == 1_000


def test_float32_operands_count_as_the_decimals_that_they_are_printed_as() -> None:
    device = Device(derived("same", "a * 1"))
    values = [20.1, -0.0015, 1.7e-12, 16777217.0, 3.4e20, 123456.79]
    times = [i * S for i in range(len(values))]
    found = device.offer(batch(ValueType.FLOAT32, [0] * len(values), values, source_time=times))
    assert [read.value for read in found] == [float(str(np.float32(value))) for value in values]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_what_is_widened_is_the_same_float32(values: list[float]) -> None:
    single = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        assert (widened(single).astype(np.float32) == single).all()


def test_a_point_whose_type_changed_is_found_under_its_new_index() -> None:
    device = Device(derived("twice", "a * 2"))
    device.offer(readings((0, 1, 1.0)))
    moved = device.bench.registry.retype("d", 0, ValueType.INT64)
    assert device.offer(batch(ValueType.INT64, [moved.index], [4], source_time=[2 * S])) == [
        Read("twice", 2 * S, 8.0, GOOD)
    ]


VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e9, 1e9))
STATUSES = st.sampled_from([GOOD, GOOD, GOOD, UNCERTAIN_SUBSTITUTE, BAD_SENSOR_FAILURE])
ROW = st.tuples(st.integers(0, 2), st.integers(0, 30), VALUES, STATUSES)
OFFERS = st.lists(st.lists(ROW, min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(OFFERS)
def test_as_a_model_that_takes_reading_by_reading(offers: list[list[tuple[int, int, float, int]]]) -> None:
    device = Device(derived("sum", "a + b / c", max_age="8s"), derived("more", "sum + a"))
    model = Model()
    for rows in offers:
        batches = [readings((p, t, v), status=status) for p, t, v, status in rows]
        found = device.offer(*batches)
        expected = model.offer(rows)
        assert [each[:2] + each[3:] for each in found] == [each[:2] + each[3:] for each in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.value == (None if other.value is None else pytest.approx(other.value, rel=1e-12))


class Model:
    """sum = a + b / c with max_age 8 s, more = sum + a, in plain Python."""

    def __init__(self) -> None:
        never = (-math.inf, None, BAD_WAITING_FOR_INITIAL_DATA)
        self.held: dict[str, tuple[float, float | None, int]] = dict.fromkeys(("a", "b", "c", "sum"), never)

    def offer(self, rows: list[tuple[int, int, float, int]]) -> list[Read]:
        read: dict[str, dict[int, tuple[float, float | None, int]]] = {}
        for point, time, value, status in rows:
            name = "abc"[point]
            if time >= self.held[name][0]:
                read.setdefault(name, {})[time] = (time, value, status)
        results = self._walk("sum", "abc", read)
        if results:
            read["sum"] = {time: (time, value, status) for _, time, value, status in results}
        more = self._walk("more", ("sum", "a"), read)
        for name, new in read.items():
            self.held[name] = new[max(new)]
        return [Read(name, time * S, value, status) for name, time, value, status in results + more]

    def _walk(self, name: str, operands: Sequence[str], read: dict[str, Any]) -> list[Any]:
        results: dict[int, tuple[str, int, float | None, int]] = {}
        now = dict(self.held)
        for time in sorted({time for operand in operands for time in read.get(operand, ())}):
            for operand in operands:
                now[operand] = read.get(operand, {}).get(time, now[operand])
            at = int(max(now[operand][0] for operand in operands))
            results[at] = (name, at, *self._one(name, at, [now[operand] for operand in operands]))
        return list(results.values())

    def _one(self, name: str, at: int, operands: list[tuple[float, float | None, int]]) -> tuple[float | None, int]:
        statuses = [
            BAD_NO_DATA if name == "sum" and status < 0x80000000 and at - max(time, 0) > 8 else status
            for time, _, status in operands
        ]
        status = max(statuses, key=lambda code: code >> 30)
        if status >= 0x80000000:
            return None, status
        values = [value for _, value, _ in operands if value is not None]
        try:
            value = values[0] + values[1] / values[2] if name == "sum" else values[0] + values[1]
        except ZeroDivisionError:
            return None, BAD_OUT_OF_RANGE
        return (value, status) if math.isfinite(value) else (None, BAD_OUT_OF_RANGE)
