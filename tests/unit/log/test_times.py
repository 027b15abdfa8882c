"""Ranges of times: which times, segments and readings lie inside."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.contract import Batch, ValueType
from gateway.log.times import EARLIEST, LATEST, TimeRange

FIRST, LAST = -(2**63), 2**63 - 1
"""of int64"""


def test_the_first_moment_lies_inside_and_the_last_does_not() -> None:
    ten = TimeRange(10, 20)
    assert [time for time in range(30) if ten.holds(time)] == list(range(10, 20))


def test_spans_of_times_against_every_time_in_them() -> None:
    ten = TimeRange(10, 20)
    for first in range(30):
        for last in range(first, 30):
            inside = [ten.holds(time) for time in range(first, last + 1)]
            assert ten.overlaps(first, last) == any(inside)
            assert ten.holds_all(first, last) == all(inside)


@pytest.mark.parametrize(
    ("times", "by_source", "by_arrival"),
    [
        (TimeRange(10, 20), [0, 0, 1, 1, 0, 0], [1] * 6),
        (TimeRange(EARLIEST, 20), [1, 1, 1, 1, 0, 0], [1] * 6),
        (TimeRange(20, LATEST), [0, 0, 0, 0, 1, 1], [0] * 6),
        (TimeRange(EARLIEST, LATEST), [1] * 6, [1] * 6),
    ],
)
def test_rows(times: TimeRange, by_source: list[int], by_arrival: list[int]) -> None:
    source = np.array([FIRST, 9, 10, 19, 20, LAST])
    batch = Batch.of("boiler-1", ValueType.BOOL, np.zeros(6), np.zeros(6, np.bool_), received_time=15, monotonic=0,
                     source_time=source)  # fmt: skip
    assert times.rows(batch).tolist() == [bool(row) for row in by_source]
    arrived = TimeRange(times.since, times.until, by_received=True)
    assert arrived.rows(batch).tolist() == [bool(row) for row in by_arrival]
