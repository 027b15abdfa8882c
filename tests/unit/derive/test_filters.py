"""Range check, deadband and report-by-exception: as if each reading were looked at by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import load_config
from gateway.contract import Batch, DeviceConfig, Flag, PointConfig, ValueType
from gateway.contract.config import DerivedPointConfig
from gateway.contract.status import (
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN_ENGINEERING_UNITS_EXCEEDED,
    UNCERTAIN_SUBSTITUTE,
)
from gateway.derive.stage import Stage, stage_of
from gateway.log.records import BatchRecord
from gateway.points.registry import PointDefinition
from tests.unit.derive.test_derived import S, readings
from tests.unit.test_normaliser import GRADE_1, Bench, batch

EXCEEDED = UNCERTAIN_ENGINEERING_UNITS_EXCEEDED


class Device:
    """Points a and b with the given keys, and derived ones."""

    def __init__(self, a: dict[str, Any], b: dict[str, Any] | None = None, *derived: DerivedPointConfig) -> None:
        points = [
            PointConfig.model_validate({"point": "a", **a}),
            PointConfig.model_validate({"point": "b", **(b or {})}),
        ]
        self.bench = Bench()
        self.bench.bind(*(PointDefinition(config, GRADE_1, None) for config in (*points, *derived)))
        config = DeviceConfig(device="d", adapter="test", points=points, derived=derived)
        self.found = stage_of(config, self.bench.table, self.bench.registry)

    @property
    def stage(self) -> Stage:
        assert self.found is not None
        return self.found

    def offer(self, *batches: Batch) -> list[Batch]:
        return [record.batch for record in self.stage.records([BatchRecord("s", each) for each in batches])]

    def values(self, *batches: Batch) -> list[Any]:
        return [value for each in self.offer(*batches) for value in each.values.tolist()]


def test_a_device_that_uses_none_of_this_has_no_stage() -> None:
    assert Device({"unit": "kPa"}).found is None


def test_a_good_value_outside_of_its_range_is_uncertain_and_travels() -> None:
    device = Device({"range": [0, 10]})
    good = [(0, 1, 0.0), (0, 2, 10.0), (0, 3, 10.1), (0, 4, -1.0), (0, 5, math.nan), (1, 6, 99.0)]
    [found] = device.offer(readings(*good))
    assert found.status.tolist() == [GOOD, GOOD, EXCEEDED, EXCEEDED, EXCEEDED, GOOD]
    assert found.values.tolist()[:4] == [0.0, 10.0, 10.1, -1.0]
    bad = readings((0, 7, 99.0), (0, 8, 99.0), status=[BAD_SENSOR_FAILURE, UNCERTAIN_SUBSTITUTE])
    assert device.offer(bad)[0].status.tolist() == [BAD_SENSOR_FAILURE, UNCERTAIN_SUBSTITUTE]
    assert device.offer(readings((0, 9, 99.0), valid=False))[0].status.tolist() == [GOOD]


def test_text_and_bools_have_no_range() -> None:
    device = Device({"range": [0, 10]})
    text = batch(ValueType.STRING, [0], np.array(["on"], object))
    assert device.offer(text)[0] is text
    assert device.offer(batch(ValueType.INT64, [0], [11]))[0].status.tolist() == [EXCEEDED]


def test_the_range_of_a_derived_point_and_what_is_derived_from_it() -> None:
    twice = DerivedPointConfig.model_validate({"point": "twice", "expression": "a * 2", "range": [0, 10]})
    more = DerivedPointConfig.model_validate({"point": "more", "expression": "twice + 1"})
    device = Device({"range": [0, 100]}, {}, more, twice)
    assert [each.status.tolist() for each in device.offer(readings((0, 1, 9.0)))] == [[GOOD], [EXCEEDED, EXCEEDED]]
    assert [each.status.tolist() for each in device.offer(readings((0, 2, -1.0)))] == [[EXCEEDED], [EXCEEDED] * 2]


def test_a_deadband_leaves_out_what_hardly_moved_since_the_last_recorded_one() -> None:
    device = Device({"deadband": 0.5})
    assert device.values(readings((0, 1, 1.0), (1, 1, 5.0))) == [1.0, 5.0]
    assert device.values(readings((0, 2, 1.4), (1, 2, 5.0))) == [5.0]
    assert device.values(readings((0, 3, 1.5))) == []
    assert device.values(readings((0, 4, 1.6), (0, 5, 2.0), (0, 6, 2.2))) == [1.6, 2.2]
    assert device.stage.filtered == 3


def test_percent_is_of_the_range() -> None:
    device = Device({"deadband": "1%", "range": [0, 200]})
    assert device.values(readings((0, 1, 100.0), (0, 2, 102.0), (0, 3, 102.5))) == [100.0, 102.5]


def test_a_change_of_status_is_never_left_out() -> None:
    device = Device({"deadband": 5})
    statuses = [GOOD, GOOD, BAD_SENSOR_FAILURE, BAD_SENSOR_FAILURE, UNCERTAIN_SUBSTITUTE, GOOD]
    rows = [(0, time, 1.0) for time in range(6)]
    [found] = device.offer(readings(*rows, status=statuses))
    assert found.source_time.tolist() == [0, 2 * S, 4 * S, 5 * S]
    [found] = device.offer(readings((0, 7, 1.0), (0, 8, 1.0), valid=[False, False]))
    assert found.source_time.tolist() == [7 * S]


def test_silence_ends_after_max_silence() -> None:
    device = Device({"max_silence": "10s"})
    times = [0, 5, 9, 10, 19, 20, 31]
    [found] = device.offer(readings(*((0, time, 1.0) for time in times)))
    assert found.source_time.tolist() == [0, 10 * S, 20 * S, 31 * S]
    assert device.values(readings((0, 32, 1.1))) == [1.1]


def test_what_is_backfilled_and_what_a_clock_put_back_are_recorded() -> None:
    device = Device({"deadband": 5})
    device.offer(readings((0, 100, 1.0)))
    assert device.values(readings((0, 50, 1.0), (0, 51, 1.0), flags=int(Flag.BACKFILLED))) == [1.0, 1.0]
    assert device.values(readings((0, 99, 1.0))) == [1.0]
    assert device.values(readings((0, 100, 1.0))) == []


def test_texts_are_compared_as_they_are() -> None:
    device = Device({"max_silence": "1h"})
    texts = batch(ValueType.STRING, [0, 0, 0, 1], np.array(["on", "on", "off", "on"], object))
    assert device.values(texts) == ["on", "off", "on"]
    assert device.values(batch(ValueType.STRING, [0], np.array(["off"], object))) == []


def test_not_a_number_is_a_value_to_move_from() -> None:
    device = Device({"deadband": 1})
    assert len(device.values(readings(*((0, i, v) for i, v in enumerate([1.0, math.nan, math.nan, 1.0]))))) == 3


def test_derived_points_see_what_is_left_out_and_are_filtered_themselves() -> None:
    twice = DerivedPointConfig.model_validate({"point": "twice", "expression": "a * 2", "deadband": 1})
    device = Device({"deadband": 10}, {}, twice)
    assert device.values(readings((0, 1, 1.0))) == [1.0, 2.0]
    assert device.values(readings((0, 2, 2.0))) == [4.0]
    assert device.values(readings((0, 3, 2.5))) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"range": [10, 0]}, "the lower number comes first"),
        ({"deadband": "1%"}, "percent of what"),
        ({"deadband": 0}, "expected a number above 0"),
    ],
)
def test_mistakes(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Device(keys)


READING = st.tuples(
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(0, 4).map(float),
    st.sampled_from([GOOD, GOOD, BAD_SENSOR_FAILURE]),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(READING, min_size=1, max_size=8), min_size=1, max_size=6))
def test_as_a_loop_over_readings(offers: list[list[tuple[int, int, float, int]]]) -> None:
    device = Device({"deadband": 1, "max_silence": "7s"}, {"max_silence": "4s"})
    last: dict[int, tuple[int, float, int]] = {}
    now, left_out = 0, 0
    for rows in offers:
        offered, expected = [], []
        for point, step, value, status in rows:
            now += step
            offered.append((point, now, value))
            if point in last and not _is_news((now, value, status), last[point], *((1, 7), (0, 4))[point]):
                left_out += 1
                continue
            last[point] = (now, value, status)
            expected.append((point, now * S, value))
        found = device.offer(readings(*offered, status=[row[3] for row in rows]))
        assert [row for each in found for row in _rows(each)] == expected
    assert device.stage.filtered == left_out


def _is_news(new: tuple[int, float, int], old: tuple[int, float, int], change: float, silence: int) -> bool:
    return new[2] != old[2] or abs(new[1] - old[1]) > change or new[0] - old[0] >= silence


def _rows(found: Batch) -> Sequence[tuple[int, int, float]]:
    return list(zip(found.points.tolist(), found.source_time.tolist(), found.values.tolist(), strict=True))


def test_the_example_of_the_docs_is_accepted_without_a_word(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    [example] = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "derived-points.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "pump-1.yaml").write_text(example, encoding="utf-8")
    gateway = root / "tests" / "cases" / "config" / "derived-valid" / "gateway.yaml"
    (tmp_path / "gateway.yaml").write_bytes(gateway.read_bytes())
    loaded = load_config(tmp_path)
    assert [problem for problem in loaded.warnings if "devices" in problem.file] == []
    assert [point.point for point in loaded.devices[0].config.derived] == [
        "delta_p", "efficiency", "alarm", "power_15min"
    ]  # fmt: skip
    assert len(loaded.devices[0].labels) == len(loaded.devices[0].identifiers) == 9
