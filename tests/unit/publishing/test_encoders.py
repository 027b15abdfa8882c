"""Both formats carry exactly what the batches hold, and are what their schemas say."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.batch import NO_TIME, Basis, Batch, Flag, ValueType
from gateway.contract.status import quality, reason
from gateway.log.records import BatchRecord, PointRecord
from gateway.publishing import fragments
from gateway.publishing.encode_columns import encode_columns
from gateway.publishing.encode_json import Header, PointPrefixes, encode_readings
from gateway.publishing.runs import Run, Slice, gather, whole
from gateway.rfc3339 import rfc3339
from tests.support.fakelog import NOW
from tests.support.subscriber import check

HEADER = Header("91370200MA3C00000K", "gw-1", "live", 7)
POINTS = {k: PointRecord("d", k, f"p{k}", "S1", 1, 0, id=None if k == 2 else f'88.118.8/d."{k}"标') for k in range(4)}
NULL_TIME, LAST_TIME = -116_444_736 * 10**9, 253_402_300_799 * 10**7
"""1601 and the end of 9999 in 100 ns since 1970"""
BASES = ("source", "server", "gateway")

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ORIGINAL_TIMES = (
    st.just(NO_TIME) | st.sampled_from([0, NULL_TIME, LAST_TIME, 2**63 // 100]) | st.integers(NULL_TIME, LAST_TIME)
)
VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.BOOL: st.booleans(),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.UINT64: st.integers(0, 2**64 - 1),
    ValueType.FLOAT32: st.floats(width=32),
    ValueType.FLOAT64: st.floats(),
    ValueType.STRING: st.text(),
    ValueType.BYTES: st.binary(max_size=20),
    ValueType.JSON: json_values,
}


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    type = draw(st.sampled_from(list(ValueType)))
    n = draw(st.integers(1, 8))

    def column(of: st.SearchStrategy[Any]) -> list[Any]:
        if draw(st.booleans()):
            return [draw(of)] * n
        return draw(st.lists(of, min_size=n, max_size=n))

    values = np.empty(n, type.dtype)
    for k, value in enumerate(draw(st.lists(VALUES[type], min_size=n, max_size=n))):
        values[k] = value
    steps = st.sampled_from([0, 1, 100, 1_000_000, 120_000_000, 999_999_999, 86_400_000_000_000])
    return Batch.of(
        "d",
        type,
        column(st.integers(0, 3)),
        values,
        received_time=NOW,
        monotonic=0,
        valid=column(st.booleans()),
        status=column(st.sampled_from([0, 0x480, 0x40900000, 0x808B0000, 0x80FF0001])),
        source_time=NOW + np.array(column(steps), np.int64),
        basis=column(st.sampled_from([0, 1, 2])),
        flags=column(st.integers(0, 15)),
        original_time=draw(st.none() | st.just(column(ORIGINAL_TIMES))),
    )


def run_of(some: list[Batch]) -> Run:
    records = []
    n = 100
    for batch in some:
        records.append(BatchRecord("S1", batch, n=n))
        n += len(batch)
    (run,) = gather(whole(record, 1) for record in records)
    return run


def ns(text: str) -> int:
    """RFC 3339 with up to nine digits, read without floats."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole_seconds = int(datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    return whole_seconds * 10**9 + int(fraction.ljust(9, "0") or 0)


def original(text: str | None) -> int:
    """The original time that a text says, NO_TIME where there is none."""
    return NO_TIME if text is None else ns(text) // 100


def original_of(batch: Batch, k: int) -> int:
    return NO_TIME if batch.original_time is None else int(batch.original_time[k])


def same(found: Any, batch: Batch, k: int) -> bool:
    if not batch.valid[k]:
        return found is None
    value = batch.values[k]
    match batch.type:
        case ValueType.FLOAT32 | ValueType.FLOAT64:
            if math.isnan(value):
                return bool(found == "NaN")
            if math.isinf(value):
                return bool(found == ("Infinity" if value > 0 else "-Infinity"))
            return bool(batch.type.dtype.type(found) == value)
        case ValueType.BYTES:
            return base64.b64decode(found) == value
        case _:
            return bool(found == value) and isinstance(found, bool) == isinstance(value, bool | np.bool_)


def rows(some: list[Batch]) -> list[tuple[Batch, int]]:
    return [(batch, k) for batch in some for k in range(len(batch))]


@settings(deadline=None)
@given(st.lists(batches(), min_size=1, max_size=3))
def test_json_carries_everything(some: list[Batch]) -> None:
    document = json.loads(encode_readings(HEADER, run_of(some), PointPrefixes(POINTS)))
    check(document)
    expected = rows(some)
    assert (document["n"], document["count"], len(document["readings"])) == (100, len(expected), len(expected))
    for reading, (batch, k) in zip(document["readings"], expected, strict=True):
        point, status = POINTS[int(batch.points[k])], int(batch.status[k])
        assert (reading["p"], reading["id"]) == (point.point, point.id)
        assert ns(reading["t"]) == batch.source_time[k]
        assert same(reading["v"], batch, k)
        assert reading["q"] == quality(status)
        assert int(reading.get("s", "0x0"), 16) == status
        assert reading.get("reason") == (None if quality(status) == "good" else reason(status))
        assert reading.get("basis", document.get("basis", "source")) == BASES[batch.basis[k]]
        words = [flag.name.lower() for flag in Flag if flag.name and batch.flags[k] & flag]
        assert reading.get("flags", []) == words
        assert original(reading.get("ot")) == original_of(batch, k)
        assert reading.get("ot", "") is not None


@settings(deadline=None)
@given(st.lists(batches(), min_size=1, max_size=3))
def test_columns_carry_everything(some: list[Batch]) -> None:
    document = json.loads(encode_columns(HEADER, run_of(some)))
    check(document)
    expected = rows(some)
    count = len(expected)

    def column(key: str) -> list[int]:
        value = document.get(key, 0)
        return value if isinstance(value, list) else [value] * count

    assert document["points"] == [int(batch.points[k]) for batch, k in expected]
    assert [ns(document["t0"]) + dt for dt in column("dt")] == [int(batch.source_time[k]) for batch, k in expected]
    assert all(same(v, batch, k) for v, (batch, k) in zip(document["v"], expected, strict=True))
    assert column("s") == [int(batch.status[k]) for batch, k in expected]
    assert column("basis") == [int(batch.basis[k]) for batch, k in expected]
    assert column("flags") == [int(batch.flags[k]) for batch, k in expected]
    originals = document.get("ot")
    originals = originals if isinstance(originals, list) else [originals] * count
    assert [original(text) for text in originals] == [original_of(batch, k) for batch, k in expected]
    assert ("ot" in document) == any(original_of(batch, k) != NO_TIME for batch, k in expected)


@pytest.mark.parametrize("number", [20.1, 0.1, 1e-7, 3.4e38])
def test_float32_prints_short(number: float) -> None:
    batch = Batch.of("d", ValueType.FLOAT32, [0], [number], received_time=NOW, monotonic=0)
    assert json.loads(encode_columns(HEADER, run_of([batch])))["v"] == [number]
    assert json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))["readings"][0]["v"] == number


def test_the_message_of_the_documentation() -> None:
    batch = Batch.of(
        "d", ValueType.FLOAT64, [0, 2], [1.204, 0], valid=[True, False], status=[0, 0x808B0000],
        source_time=np.array([1_795_161_600_123_456_000, 1_795_161_600_000_000_000]), received_time=NOW, monotonic=0,
    )  # fmt: skip
    assert json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))["readings"] == [
        {"p": "p0", "id": '88.118.8/d."0"标', "t": "2026-11-20T08:00:00.123456Z", "v": 1.204, "q": "good"},
        {"p": "p2", "id": None, "t": "2026-11-20T08:00:00Z", "v": None, "q": "bad", "s": "0x808B0000",
         "reason": "device"},
    ]  # fmt: skip


def test_a_shared_basis_is_said_once() -> None:
    batch = Batch.of("d", ValueType.BOOL, [0, 1], [True, False], received_time=NOW, monotonic=0, basis=Basis.GATEWAY)
    document = json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))
    assert document["basis"] == "gateway"
    assert all("basis" not in reading for reading in document["readings"])


def test_original_times_of_the_documentation() -> None:
    batch = Batch.of(
        "d", ValueType.BOOL, [0, 1, 1], True, received_time=NOW, monotonic=0, basis=[0, 1, 2],
        status=[0, 0, 0x808B0000], original_time=[NO_TIME, 0, NULL_TIME],
    )  # fmt: skip
    found = json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))["readings"]
    assert [reading.get("ot") for reading in found] == [None, "1970-01-01T00:00:00Z", "1601-01-01T00:00:00Z"]
    assert [reading["q"] for reading in found] == ["good", "good", "bad"]
    columns = json.loads(encode_columns(HEADER, run_of([batch])))
    assert columns["ot"] == [None, "1970-01-01T00:00:00Z", "1601-01-01T00:00:00Z"]
    same = json.loads(encode_columns(HEADER, run_of([batch.take(np.array([1, 1]))])))
    assert same["ot"] == "1970-01-01T00:00:00Z"


def test_readings_with_times_of_their_own_say_nothing_of_others() -> None:
    batch = Batch.of("d", ValueType.BOOL, [0, 1], True, received_time=NOW, monotonic=0, original_time=[NO_TIME, 0])
    (run,) = gather([Slice(BatchRecord("S1", batch, n=0), 0, 1, 1)])
    assert "ot" not in json.loads(encode_columns(HEADER, run))
    assert "ot" not in json.loads(encode_readings(HEADER, run, PointPrefixes(POINTS)))["readings"][0]


def test_an_index_without_an_entry_has_a_name_of_its_own() -> None:
    batch = Batch.of("d", ValueType.BOOL, [99], [True], received_time=NOW, monotonic=0)
    document = json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))
    assert document["readings"][0]["p"] == "point-99"


def test_odd_objects_never_stop_the_encoder() -> None:
    values = np.empty(3, object)
    values[:] = [
        {"a": [math.nan, b"\0", np.float32(2), 2**70]},
        ["\ud800", (1, 2), np.arange(2)],
        datetime(2026, 1, 1, tzinfo=UTC),
    ]
    batch = Batch.of("d", ValueType.JSON, [0, 0, 0], values, received_time=NOW, monotonic=0)
    document = json.loads(encode_columns(HEADER, run_of([batch])))
    assert document["v"] == [
        {"a": ["NaN", "AA==", 2.0, str(2**70)]},
        ["?", [1, 2], [0, 1]],
        "2026-01-01 00:00:00+00:00",
    ]


ODD = st.recursive(
    json_values
    | st.floats()
    | st.binary(max_size=3)
    | st.sampled_from(["null", "a null", "\ud800", 2**70, np.float32(0.5), datetime(2026, 1, 1, tzinfo=UTC)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(type=st.sampled_from([ValueType.JSON, ValueType.STRING]), data=st.data())
def test_the_short_way_for_objects_makes_the_same_text(type: ValueType, data: st.DataObject) -> None:
    found = data.draw(
        st.lists(ODD if type is ValueType.JSON else st.text() | st.just("\ud800"), min_size=1, max_size=5)
    )
    values = np.empty(len(found), object)
    for k, value in enumerate(found):
        values[k] = value
    valid = np.array([data.draw(st.booleans()) for _ in found])
    short = fragments.value_block(type, values, valid), fragments.value_fragments(type, values, valid)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fragments, "_dumped", lambda value: None)
        assert (fragments.value_block(type, values, valid), fragments.value_fragments(type, values, valid)) == short


NUMBERS: dict[ValueType, st.SearchStrategy[float]] = {
    ValueType.BOOL: st.booleans(),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.UINT64: st.integers(0, 2**64 - 1),
    ValueType.FLOAT32: st.floats(width=32),
    ValueType.FLOAT64: st.floats(),
}


@given(type=st.sampled_from([*NUMBERS]), data=st.data())
def test_a_block_of_numbers_is_its_fragments_with_nulls_where_there_is_no_value(
    type: ValueType, data: st.DataObject
) -> None:
    found = data.draw(st.lists(st.tuples(NUMBERS[type], st.booleans()), min_size=1, max_size=8))
    values = np.array([value for value, _ in found], type.dtype)
    valid = np.array([ok for _, ok in found])
    assert fragments.value_block(type, values, valid) == b",".join(fragments.value_fragments(type, values, valid))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_100_000, "1970-01-01T00:00:01.0001Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_time_text(time: int, text: str) -> None:
    assert rfc3339(time) == text


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.sampled_from([1, 1000, 10**6, 10**9]))
def test_times_of_a_column(times: list[int], unit: int) -> None:
    column = np.array([time // unit * unit if time // unit * unit >= -(2**63) else time for time in times], np.int64)
    batch = Batch.of("d", ValueType.BOOL, [0] * len(times), True, received_time=0, monotonic=0, source_time=column)
    document = json.loads(encode_readings(HEADER, run_of([batch]), PointPrefixes(POINTS)))
    assert [ns(reading["t"]) for reading in document["readings"]] == column.tolist()
    assert all(not reading["t"].removesuffix("Z").partition(".")[2].endswith("0") for reading in document["readings"])


@given(st.lists(batches(), min_size=1, max_size=3), st.integers(1, 30))
def test_a_split_run_loses_nothing(some: list[Batch], most: int) -> None:
    run: Run | None = run_of(some)
    expected = rows(some)
    n = 100
    while run is not None:
        piece, run = run.split(most)
        assert piece.n == n
        assert 1 <= piece.count <= most
        assert run is None or piece.count == most
        n += piece.count
    assert n == 100 + len(expected)


def test_a_hole_in_the_offsets_begins_a_new_run() -> None:
    batch = Batch.of("d", ValueType.BOOL, [0, 0], True, received_time=0, monotonic=0)
    runs = gather(whole(BatchRecord("S1", batch, n=n), 1) for n in (0, 2, 5))
    assert [(run.n, run.count) for run in runs] == [(0, 4), (5, 2)]
