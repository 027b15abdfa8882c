"""The account of an outage: what is missing, what came twice, what a gap record covers."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.load import kinds
from benchmarks.receive.ticks import Found, Hole, Ticks, reader_of, readings

ITEMS = 4
SECOND = 1_000_000_000
START = 1_795_000_000 * SECOND


def found(tick: int, items: int = ITEMS, times: bool = True) -> Found:
    values = kinds.numbers("double", tick, np.arange(items)).tolist()
    return Found(values, [START + tick * SECOND] * items if times else ())


def gap(start: str, end: str | None, id: str = "1") -> dict[str, object]:
    return {"schema": "gap/1", "id": id, "of": "load", "from": start, "to": end, "reason": "gateway-down"}


def test_all_that_came_in_any_order_is_nothing_lost() -> None:
    ticks = Ticks(ITEMS)
    assert [ticks.take(found(tick)) for tick in (7, 5, 6)] == [7, 5, 6]
    account = ticks.snapshot(5, 7, SECOND)
    assert (account["readings"], account["lost"], account["lost_and_not_told"], account["holes"]) == (12, 0, 0, [])
    assert (account["twice"], account["wrong"], ticks.newest) == (0, 0, 7)


def test_what_is_missing_is_lost_and_told_only_where_a_gap_covers_its_time() -> None:
    ticks = Ticks(ITEMS)
    for tick in (1, 2, 3, 8, 9):
        ticks.take(found(tick))
    ticks.take(found(4, items=1))
    assert ticks.holes(1, 9) == [Hole(4, 7, 3 + 3 * ITEMS)]
    assert ticks.snapshot(1, 9, SECOND)["lost_and_not_told"] == 15
    # 04 to 06 s: of tick 7 nothing is told. An open gap tells nothing until it is closed under the same id
    ticks.told(gap("2026-11-18T08:26:44Z", None))
    assert ticks.snapshot(1, 9, SECOND)["lost_and_not_told"] == 15
    at = np.datetime64(START, "ns")
    ticks.told(gap(f"{at + np.timedelta64(4, 's')}Z", f"{at + np.timedelta64(6, 's')}Z"))
    account = ticks.snapshot(1, 9, SECOND)
    assert (account["lost"], account["lost_and_not_told"], account["told_s"]) == (15, ITEMS, 2.0)
    ticks.told(gap(f"{at + np.timedelta64(5, 's')}Z", f"{at + np.timedelta64(8, 's')}Z", id="2"))
    account = ticks.snapshot(1, 9, SECOND)
    assert (account["lost_and_not_told"], account["told_s"]) == (0, 4.0), "where two overlap, once"


def test_ticks_that_nobody_has_seen_begin_and_end_count_too() -> None:
    ticks = Ticks(ITEMS)
    ticks.take(found(2, times=False))
    assert [hole.readings for hole in ticks.holes(1, 3)] == [ITEMS, ITEMS]
    assert ticks.snapshot(1, 3, SECOND)["lost_and_not_told"] == 2 * ITEMS


def test_twice_and_wrong() -> None:
    ticks = Ticks(ITEMS)
    ticks.take(found(1))
    ticks.take(found(1, items=2))
    ticks.take(Found(kinds.numbers("double", 1, np.array([ITEMS])).tolist()))
    account = ticks.snapshot(1, 1, SECOND)
    assert (account["readings"], account["twice"], account["wrong"], account["lost"]) == (7, 2, 1, 0)


def test_values_are_found_in_both_formats() -> None:
    values = found(3).values
    columns = {"n": 0, "count": 4, "points": [0, 1, 2, 3], "t0": "2026-11-18T08:26:43.5Z", "dt": [0, 1, 2, 3]}
    body = json.dumps({"schema": "columns/1", **columns, "v": [values[0], None, values[2], values[3]]})
    assert readings("bench/g/load/readings", body.encode()) == Found(
        [values[0], values[2], values[3]], [1794990403_500000000 + k for k in (0, 2, 3)]
    )
    each = [{"p": "p0", "t": "2026-11-18T08:26:43.5Z", "v": value} for value in (values[0], None)]
    body = json.dumps({"schema": "readings/1", "n": 0, "count": 2, "readings": each})
    assert readings("bench/g/load/readings", body.encode()) == Found([values[0]], [1794990403_500000000])
    assert readings("bench/g/status", b"{}") is None
    assert reader_of("benchmarks.receive.ticks:readings") is readings
