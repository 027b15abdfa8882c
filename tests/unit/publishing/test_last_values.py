"""The last value of every point, against a plain dict; images have their moments spread over the period."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from gateway.contract.batch import NO_TIME, Batch, Flag, ValueType
from gateway.log.records import BatchRecord, Segment
from gateway.publishing.images import moments
from gateway.publishing.last_values import LastValues

ALL = np.zeros(200, np.int64)
TYPES = {0: ValueType.FLOAT64, 1: ValueType.STRING, 2: ValueType.INT64}
Row = tuple[int, Any, bool, int, int, int, int]
"""time, value, valid, status, basis, flags, original time"""


def known(last: LastValues, device: str = "d") -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for batch in last.batches(device, ALL, received_time=0, monotonic=0):
        originals = np.full(len(batch), NO_TIME) if batch.original_time is None else batch.original_time
        columns = (batch.source_time, batch.values, batch.valid, batch.status, batch.basis, batch.flags, originals)
        for index, *row in zip(batch.points.tolist(), *(column.tolist() for column in columns), strict=True):
            assert index not in rows
            rows[index] = (row[0], row[1], row[2], row[3], row[4], row[5], row[6])
    return rows


def some_batch(chance: random.Random, time: int, *, backfilled: bool) -> Batch:
    """Points of one of three types; of a history when told so, with times before the others'."""
    kind = chance.randrange(3)
    n = chance.randint(1, 12)
    points = [3 * chance.randrange(chance.choice([4, 40])) + kind for _ in range(n)]
    values = np.empty(n, TYPES[kind].dtype)
    values[:] = [chance.randrange(1000) if kind != 1 else f"t{chance.randrange(1000)}" for _ in range(n)]
    back = 5000 if backfilled else 0
    return Batch.of(
        "d",
        TYPES[kind],
        points,
        values,
        received_time=0,
        monotonic=0,
        valid=[chance.random() < 0.9 for _ in range(n)],
        status=[chance.choice([0, 0x80050000]) for _ in range(n)],
        source_time=[time - chance.randrange(back + 1) + k for k in range(n)],
        basis=[chance.randrange(3) for _ in range(n)],
        flags=[Flag.BACKFILLED if backfilled else chance.choice([0, Flag.OVERFLOW]) for _ in range(n)],
        original_time=[chance.choice([NO_TIME, 7]) for _ in range(n)] if chance.random() < 0.1 else None,
    )


def apply(model: dict[int, Row], batch: Batch) -> None:
    originals = np.full(len(batch), NO_TIME) if batch.original_time is None else batch.original_time
    columns = (batch.source_time, batch.values, batch.valid, batch.status, batch.basis, batch.flags, originals)
    for index, *row in zip(batch.points.tolist(), *(column.tolist() for column in columns), strict=True):
        late = batch.flags[0] & Flag.BACKFILLED and index in model and row[0] < model[index][0]
        if not late:
            model[index] = (row[0], row[1], row[2], row[3], row[4], row[5], row[6])


@pytest.mark.parametrize("seed", range(20))
def test_against_a_plain_dict(seed: int) -> None:
    chance = random.Random(seed)
    last, model = LastValues(), dict[int, Row]()
    for position in range(300):
        batches = [
            some_batch(chance, 10_000 * position, backfilled=chance.random() < 0.1) for _ in range(chance.randint(1, 3))
        ]
        last.take([Segment(position, [BatchRecord("S1", batch) for batch in batches])])
        for batch in batches:
            apply(model, batch)
        if chance.random() < 0.05:
            assert known(last) == model
    assert known(last) == model


@pytest.mark.parametrize("seed", range(5))
def test_the_past_that_is_looked_through_later_replaces_nothing(seed: int) -> None:
    """At a start the log is read from its end backwards, in pieces, while new segments come."""
    chance = random.Random(seed)
    segments = [
        Segment(position, [BatchRecord("S1", some_batch(chance, 10_000 * position, backfilled=False))])
        for position in range(200)
    ]
    model: dict[int, Row] = {}
    for segment in segments:
        for record in segment.records:
            assert isinstance(record, BatchRecord)
            apply(model, record.batch)
    last = LastValues()
    last.take(segments[150:])
    for start in (100, 50, 0):
        last.take(segments[start : start + 50], fill=True)
    assert known(last) == model


def test_only_what_lies_behind_a_position_is_shown() -> None:
    last = LastValues()
    for position, point in enumerate((0, 1, 2)):
        batch = Batch.of("d", ValueType.FLOAT64, [point], [1.0], received_time=0, monotonic=0)
        last.take([Segment(position, [BatchRecord("S1", batch)])])
    since = np.array([0, 2])
    (batch,) = last.batches("d", since, received_time=5, monotonic=6)
    assert batch.points.tolist() == [0], "1 was accepted before, 2 is nobody's to see"
    assert last.batches("e", since, received_time=5, monotonic=6) == []


def test_images_of_many_devices_are_spread_over_the_period() -> None:
    hour = 3600
    start = 12_345 * 10**9
    names = [f"centre/device-{k}" for k in range(600)]
    per_minute: Counter[int] = Counter()
    for name in names:
        passed = [moments(name, hour, start + minute * 60 * 10**9) for minute in range(121)]
        assert passed[60] - passed[0] == passed[120] - passed[60] == 1, "one in each period"
        per_minute[next(k for k in range(60) if passed[k + 1] > passed[k])] += 1
    assert max(per_minute.values()) < 30
    assert len(per_minute) > 55
