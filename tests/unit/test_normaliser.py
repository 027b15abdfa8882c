"""The normaliser and the registry: scale, type, stream and permanent index, on whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import NO_TIME, Batch, PointConfig, ValueType
from gateway.log.records import BatchRecord, Labels, PointRecord, Record, Series, StreamRecord
from gateway.normalise import Normaliser
from gateway.normalise.linear import linear
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams, closing_events
from gateway.points.table import PointTable

GRADE_1 = Labels("production", 1, "general")
GRADE_2 = Labels("production", 2, "general")


class Bench:
    """A registry on an empty table, with everything that it wrote."""

    def __init__(self, table: PointTable | None = None, *, continue_old: bool = True, now: int = 1) -> None:
        self.table = table or PointTable()
        self.written: list[Record] = []
        self.streams = Streams(self.table, continue_old=continue_old, now=lambda: now, begin=self._begin)
        self.registry = Registry(self.table, self.streams, now=lambda: now, write=self.written.extend)

    def _begin(self, stream: StreamRecord) -> None:
        self.table.apply([stream])
        self.written.append(stream)

    def bind(self, *points: PointDefinition) -> list[int]:
        definition = DeviceDefinition("d", None, "test", points)
        return [point.index for point in self.registry.bind(definition)]

    def normaliser(self) -> Normaliser:
        return Normaliser("d", self.table, self.registry)


def define(point: str, labels: Labels = GRADE_1, id: str | None = None, **keys: object) -> PointDefinition:
    return PointDefinition(PointConfig.model_validate({"point": point, **keys}), labels, id)


def batch(type: ValueType, points: Sequence[int], values: object, **columns: object) -> Batch:
    return Batch.of("d", type, points, values, received_time=1_000, monotonic=5, **columns)  # type: ignore[arg-type]


def test_indexes_are_permanent_and_never_used_again() -> None:
    bench = Bench()
    assert bench.bind(define("a"), define("b")) == [0, 1]
    assert bench.bind(define("b"), define("c")) == [1, 2]
    assert bench.table.points("d")[0].retired_at is not None
    assert bench.bind(define("a"), define("b"), define("c")) == [3, 1, 2]


@pytest.mark.parametrize(
    "change", [{"id": "88.1.2/x"}, {"unit": "MPa"}, {"scale": 0.1}, {"offset": 1.0}, {"labels": GRADE_2}]
)
def test_a_change_of_meaning_makes_a_new_entry_and_retires_the_old(change: dict[str, object]) -> None:
    bench = Bench()
    bench.bind(define("a"))
    assert bench.bind(define("a", **change)) == [1]  # type: ignore[arg-type]
    assert bench.table.points("d")[0].retired_at == 1
    assert bench.table.version("d") == 2


def test_a_display_text_changes_under_the_same_index() -> None:
    bench = Bench()
    bench.bind(define("a", name="old"))
    assert bench.bind(define("a", name="new")) == [0]
    assert bench.table.points("d")[0].name == "new"
    assert bench.table.version("d") == 2


def test_nothing_is_written_when_nothing_changed() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b"))
    before = len(bench.written)
    bench.bind(define("a"), define("b"))
    assert len(bench.written) == before


def test_a_broken_continuity_begins_new_streams_and_closes_the_old_by_an_event() -> None:
    old = Bench()
    old.bind(define("a"), define("b", GRADE_2))
    streams = {stream.labels: stream.stream for stream in old.table.streams()}
    new = Bench(old.table, continue_old=False, now=2_000_000_000)
    next_n = {Series(streams[GRADE_1], "d"): 17, Series(streams[GRADE_2], "d"): 0}
    events = closing_events(old.table, new.streams, next_n, "restored", 2)
    assert [event.body["closed"] for event in events] == [streams[GRADE_1]], (
        "a stream without readings needs no closing"
    )
    assert events[0].body["last"] == {"d": 16}
    assert events[0].body["successor"] == events[0].stream != streams[GRADE_1]
    assert new.bind(define("a"), define("b", GRADE_2)) == [2, 3]


@given(raw=st.integers(-(2**31), 2**31), thousandths=st.integers(-(10**6), 10**6), tenths=st.integers(-(10**6), 10**6))
def test_decimal_scaling_of_integers_is_rounded_once(raw: int, thousandths: int, tenths: int) -> None:
    scale, offset = thousandths / 1000, tenths / 10
    line = linear(scale, offset)
    exact = Fraction(Decimal(repr(scale))) * raw + Fraction(Decimal(repr(offset)))
    assert (raw * line.factor + line.addend) / line.divisor == float(exact)


def test_scaled_integers_become_floats_and_the_others_pass() -> None:
    bench = Bench()
    bench.bind(define("a", scale=0.1), define("b"))
    records = bench.normaliser().records([batch(ValueType.INT64, [0, 1, 0], [3, 7, -5])])
    by_type = {record.batch.type: record.batch for record in records}
    assert by_type[ValueType.FLOAT64].values.tolist() == [0.3, -0.5]
    assert by_type[ValueType.INT64].values.tolist() == [7]


def test_scaled_float32_keeps_the_precision_of_its_source() -> None:
    bench = Bench()
    bench.bind(define("a", scale=0.1))
    (record,) = bench.normaliser().records([batch(ValueType.FLOAT32, [0], np.array([20.1], np.float32))])
    assert record.batch.values.dtype == np.float32
    assert str(record.batch.values[0]) == "2.01"


def test_the_first_value_fills_the_type_and_a_null_does_not() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b"))
    normaliser = bench.normaliser()
    normaliser.records([batch(ValueType.FLOAT64, [0, 1], [0, 0], valid=False, status=0x80310000)])
    assert bench.table.points("d")[0].type is None
    normaliser.records([batch(ValueType.INT64, [0, 1], [1, 2])])
    assert {record.type for record in bench.table.points("d").values()} == {ValueType.INT64}
    assert bench.table.version("d") == 2


def test_all_first_values_of_an_offer_make_one_catalogue_version() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b"), define("c", scale=0.1))
    normaliser = bench.normaliser()
    normaliser.records([batch(ValueType.INT64, [0, 2], [1, 2]), batch(ValueType.STRING, [1], np.array(["x"], object))])
    types = {record.point: record.type for record in bench.table.points("d").values()}
    assert types == {"a": ValueType.INT64, "b": ValueType.STRING, "c": ValueType.FLOAT64}
    assert bench.table.version("d") == 2


def test_a_point_with_two_types_in_its_first_offer_keeps_both_readings() -> None:
    bench = Bench()
    bench.bind(define("a"))
    records = bench.normaliser().records([batch(ValueType.INT64, [0], [1]), batch(ValueType.FLOAT64, [0], [1.5])])
    assert [(record.batch.points.tolist(), record.batch.values.tolist()) for record in records] == [
        ([0], [1]),
        ([1], [1.5]),
    ]


def test_a_null_goes_to_a_batch_of_its_points_known_type() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b"))
    normaliser = bench.normaliser()
    normaliser.records([batch(ValueType.STRING, [0], np.array(["x"], object)), batch(ValueType.INT64, [1], [1])])
    records = normaliser.records([batch(ValueType.FLOAT64, [0, 1], [0, 0], valid=False, status=0x80310000)])
    assert {record.batch.type: record.batch.points.tolist() for record in records} == {
        ValueType.STRING: [0],
        ValueType.INT64: [1],
    }
    assert all(not record.batch.valid.any() for record in records)


def test_a_changed_type_makes_a_new_entry_and_old_handles_still_reach_it() -> None:
    bench = Bench()
    bench.bind(define("a"))
    normaliser = bench.normaliser()
    normaliser.records([batch(ValueType.INT64, [0], [1])])
    (record,) = normaliser.records([batch(ValueType.FLOAT64, [0], [1.5])])
    assert record.batch.points.tolist() == [1]
    (record,) = normaliser.records([batch(ValueType.FLOAT64, [0], [2.5])])
    assert record.batch.points.tolist() == [1]
    entries = bench.table.points("d")
    assert (entries[0].type, entries[0].retired_at) == (ValueType.INT64, 1)
    assert (entries[1].type, entries[1].retired_at) == (ValueType.FLOAT64, None)


def test_readings_are_split_by_stream_and_keep_their_order() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b", GRADE_2), define("c"))
    records = bench.normaliser().records([batch(ValueType.INT64, [2, 1, 0, 1], [10, 20, 30, 40])])
    labels = {bench.table.labels(record.stream): record.batch.values.tolist() for record in records}
    assert labels == {GRADE_1: [10, 30], GRADE_2: [20, 40]}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-1000, 1000), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_no_reading_is_lost_or_moved_to_another_point(rows: list[tuple[int, int, bool]]) -> None:
    bench = Bench()
    bench.bind(define("a", scale=0.5), define("b", GRADE_2), define("c"), define("d", offset=1.0))
    points = [point for point, _, _ in rows]
    valid = np.array([valid for _, _, valid in rows])
    records = bench.normaliser().records([batch(ValueType.INT64, points, [value for _, value, _ in rows], valid=valid)])
    assert sum(len(record.batch) for record in records) == len(rows)
    entries = bench.table.points("d")
    for index, convert in ((0, lambda v: v * 0.5), (1, float), (2, float), (3, lambda v: v + 1.0)):
        expected = [convert(value) for point, value, ok in rows if point == index and ok]
        got = [
            float(value)
            for record in records
            for point, value, ok in zip(record.batch.points, record.batch.values, record.batch.valid, strict=True)
            if entries[int(point)].point == "abcd"[index] and ok
        ]
        assert got == expected


def test_entries_are_written_before_the_batch_that_needs_them() -> None:
    bench = Bench()
    bench.bind(define("a"))
    bench.written.clear()
    bench.normaliser().records([batch(ValueType.INT64, [0], [1])])
    assert [record.type for record in bench.written if isinstance(record, PointRecord)] == [ValueType.INT64]


def test_original_times_stay_with_their_readings_whatever_becomes_of_them() -> None:
    """Scaled and not, in two streams, of another type without a value: each keeps its own."""
    bench = Bench()
    bench.bind(define("plain"), define("scaled", scale=0.5), define("other", GRADE_2), define("text"))
    normaliser = bench.normaliser()
    normaliser.records([batch(ValueType.STRING, [3], np.array(["text"], object))])
    originals = [10, 11, 12, 13, NO_TIME, NO_TIME, NO_TIME]
    valid = [True, True, True, False, True, True, True]
    offered = batch(ValueType.FLOAT64, [0, 1, 2, 3, 0, 1, 2], np.arange(7.0), valid=valid, original_time=originals)
    found: dict[tuple[str, int], int] = {}
    for record in normaliser.records([offered]):
        part = record.batch
        kept = part.original_time if part.original_time is not None else np.full(len(part), NO_TIME)
        for point, value, ok, original in zip(
            part.points.tolist(), part.values, part.valid, kept.tolist(), strict=True
        ):
            found[point, int(value * (2 if point == 1 else 1)) if ok else -1] = original
    missing = {(0, 4): NO_TIME, (1, 5): NO_TIME, (2, 6): NO_TIME}
    assert found == {(0, 0): 10, (1, 1): 11, (2, 2): 12, (3, -1): 13} | missing


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from((ValueType.INT64, ValueType.FLOAT64))), max_size=12))
def test_columns_that_an_adapter_shares_are_read_as_any_others(offers: list[tuple[int, ValueType]]) -> None:
    columns = [np.array(points, np.int32) for points in ((0, 1), (2,), (3, 4), (0, 3), (4, 1, 0))]
    for index in columns:
        index.setflags(write=False)
    points = [define("a"), define("b"), define("scaled", scale=0.1), define("other", GRADE_2), define("c")]
    shared, fresh = Bench(), Bench()
    shared.bind(*points)
    fresh.bind(*points)
    one, other = shared.normaliser(), fresh.normaliser()
    for round, (column, type) in enumerate(offers):
        index = columns[column]
        values = np.arange(len(index)) + round
        for twice in range(2):
            found = one.records([batch(type, index, values + twice)])  # type: ignore[arg-type]
            wanted = other.records([batch(type, index.tolist(), values + twice)])
            assert [_seen(record) for record in found] == [_seen(record) for record in wanted]
    assert _entries(shared) == _entries(fresh)


def _entries(bench: Bench) -> list[tuple[object, ...]]:
    return [(r.index, r.point, r.type, r.catalogue, r.retired_at) for r in bench.written if isinstance(r, PointRecord)]


def _seen(record: BatchRecord) -> tuple[object, ...]:
    made = record.batch
    return record.series.device, made.type, made.points.tolist(), made.values.tolist(), made.valid.tolist()
