"""`tail` in the gateway: bounded, counted, and in words."""

from __future__ import annotations

import numpy as np

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord, PointRecord
from gateway.runtime.sink import DeviceCounters
from gateway.runtime.taps import AT_ONCE, MOST_READINGS, Tap, lines


def record(count: int, value: float = 1.5, status: int = 0) -> BatchRecord:
    points = np.zeros(count, np.int32)
    return BatchRecord(
        "s", Batch.of("d", ValueType.FLOAT64, points, value, status=status, received_time=7, monotonic=7), None
    )


KNOWN = {
    0: PointRecord(device="d", index=0, point="level", stream="s", catalogue=1, valid_from=0, unit="m", tag="LI-1")
}


async def test_what_a_slow_listener_cannot_take_is_dropped_and_counted() -> None:
    tap = Tap()
    tap([record(MOST_READINGS - 10)])
    tap([record(10), record(1)])
    assert tap.dropped == 1
    assert [len(each.batch) for each in await tap.wait(0.01)] == [MOST_READINGS - 10, 10]
    assert await tap.wait(0.01) == []
    tap([record(MOST_READINGS + 1)])
    assert len(await tap.wait(0.01)) == 1, "one batch is always taken"
    assert tap.dropped == 1


def test_lines_are_short_and_only_what_is_wanted() -> None:
    parts = list(lines([record(AT_ONCE + 1)], KNOWN, ()))
    assert [len(part) for part in parts] == [AT_ONCE, 1]
    assert parts[1] == [[7, "level", 1.5, "m", "good", 0]]
    assert list(lines([record(3)], KNOWN, {"flow"})) == []
    assert len(next(lines([record(3)], KNOWN, {"LI-1"}))) == 3
    (one,) = next(lines([record(1, float("nan"), 0x808C0000)], KNOWN, ()))
    assert one[2:] == ["nan", "m", "bad (sensor)", 0x808C0000]


def test_bad_points_are_known_as_long_as_they_are_bad() -> None:
    def batch(status: int, *points: int) -> Batch:
        indexes = np.array(points, np.int32)
        return Batch.of("d", ValueType.FLOAT64, indexes, 1.0, status=status, received_time=7, monotonic=7)

    counters = DeviceCounters()
    counters.note(batch(0x808C0000, 1))
    counters.note(batch(0x80310000, 3, 4))
    assert counters.bad is not None
    assert counters.bad.tolist() == [0, 0x808C0000, 0, 0x80310000, 0x80310000]
    counters.note(batch(0, 1, 3))
    counters.note(batch(0, 4))
    assert counters.bad is None
