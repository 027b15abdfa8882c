"""Segments and columns come back to the bit; what cannot be read says why."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.adapter import Origin
from gateway.contract.batch import NO_TIME, Batch, ValueType
from gateway.log import LogCorruptError, LogFormatError, codec, columns, encodings
from gateway.log.records import (
    EVENTS_DEVICE,
    BatchRecord,
    DeviceRecord,
    EventRecord,
    Labels,
    PointRecord,
    Record,
    Series,
    StreamRecord,
)
from tests.support.logs import STREAM, T0, definitions, event, reading, same_batch, same_records

CASES = Path(__file__).parents[2] / "cases" / "log"
JSON_LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    near = st.integers(max(low, -300), min(high, 70_000))
    return st.integers(low, high) | near | st.sampled_from([low, high, 0, 1])


def column_of(dtype: Any, elements: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[Any]:
    if np.dtype(dtype) == object:
        return st.lists(elements, min_size=count, max_size=count).map(as_objects)
    # Constants, ranges and noise around a base are what the encodings are for.
    listed = st.lists(elements, min_size=count, max_size=count)
    constant = elements.map(lambda v: [v] * count)
    return (listed | constant).map(lambda values: np.array(values, dtype))


def as_objects(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    for index, value in enumerate(values):
        column[index] = value
    return column


def decimals() -> st.SearchStrategy[float]:
    return st.integers(-(10**9), 10**9).flatmap(lambda k: st.integers(0, 7).map(lambda digits: k / 10**digits))


VALUES: dict[ValueType, Any] = {
    ValueType.BOOL: st.booleans(),
    ValueType.INT64: integers(64, True),
    ValueType.UINT64: integers(64, False),
    ValueType.FLOAT32: st.floats(width=32) | decimals(),
    ValueType.FLOAT64: st.floats(width=64) | decimals(),
    ValueType.STRING: st.text(st.characters()),
    ValueType.BYTES: st.binary(),
    ValueType.JSON: JSON_VALUES,
}


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    count = draw(st.integers(1, 30))
    type = draw(st.sampled_from(ValueType))
    origin_time = draw(st.integers(-(2**62), 2**62))
    times = integers(64, True) | st.integers(-5000, 5000).map(lambda k: origin_time + 100 * k)
    return Batch(
        device=draw(st.sampled_from(["boiler-1", "reactor-3"])),
        type=type,
        points=draw(column_of(np.int32, integers(32, True), count)),
        values=draw(column_of(type.dtype, VALUES[type], count)),
        valid=draw(column_of(np.bool_, st.booleans(), count)),
        status=draw(column_of(np.uint32, integers(32, False), count)),
        source_time=draw(column_of(np.int64, times, count)),
        basis=draw(column_of(np.uint8, st.integers(0, 2), count)),
        flags=draw(column_of(np.uint8, st.integers(0, 15), count)),
        received_time=draw(integers(64, True)),
        monotonic=draw(integers(64, True)),
        original_time=draw(st.none() | column_of(np.int64, integers(64, True) | st.just(NO_TIME), count)),
    )


def round_trip(records: list[Record], position: int = 1) -> list[Record]:
    head, body, _ = codec.encode_segment(records, position, T0)
    return codec.decode_body(codec.decode_head(head, position), body)


def only_batch(records: list[Record]) -> Batch:
    (record,) = records
    assert isinstance(record, BatchRecord)
    return record.batch


@settings(max_examples=120, deadline=None)
@given(batches(), st.integers(0, 2**63), st.booleans())
def test_any_batch_comes_back_to_the_bit(batch: Batch, n: int, with_origin: bool) -> None:
    origin = Origin("urn:厂/server", 2**32 - 1, 2**32 - 1) if with_origin else None
    records: list[Record] = [BatchRecord(STREAM, batch, origin, n)]
    assert same_records(round_trip(records), records)


@settings(max_examples=40, deadline=None)
@given(st.lists(batches(), min_size=1, max_size=5), st.integers(1, 2**62))
def test_offsets_follow_on_within_a_segment(several: list[Batch], position: int) -> None:
    next_n = {"boiler-1": 3, "reactor-3": 2**40}
    records: list[Record] = []
    for batch in several:
        records.append(BatchRecord(STREAM, batch, None, next_n[batch.device]))
        next_n[batch.device] += len(batch)
    head, body, heads = codec.encode_segment(records, position, T0)
    read = codec.decode_head(head, position)
    assert same_records(codec.decode_body(read, body), records)
    assert read.series == heads
    assert read.readings == sum(map(len, several))
    assert read.min_source == min(int(b.source_time.min()) for b in several)
    assert read.max_received == max(b.received_time for b in several)
    for series, n, readings, low, high in heads:
        mine = [r.batch for r in records if isinstance(r, BatchRecord) and r.series == series]
        assert n + readings == next_n[series.device]
        assert low == min(int(b.source_time.min()) for b in mine)
        assert high == max(int(b.source_time.max()) for b in mine)


@settings(deadline=None)
@given(JSON_VALUES)
def test_any_json_value_comes_back_exactly(value: Any) -> None:
    decoded = columns.decode_json(columns.Reader(columns.encode_json([value])))
    assert repr(decoded) == repr([value])


def test_nan_payloads_and_minus_zero_stay() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF0DEADBEEF0001, 0x8000000000000000, 0], np.uint64)
    batch = Batch.of("d", ValueType.FLOAT64, range(4), bits.view(np.float64), received_time=T0, monotonic=0)
    assert same_batch(only_batch(round_trip([BatchRecord(STREAM, batch, None, 0)])), batch)


def test_other_records_come_back_whole() -> None:
    records: list[Record] = [
        *definitions(),
        DeviceRecord("boiler-1", "1 号锅炉", "modbus"),
        PointRecord("boiler-1", 1, "level", STREAM, 2, T0, retired_at=T0 + 1, scale=0.1, offset=-40.0, id="88.118.8/x"),
        event(0, values=[1, None, float("inf")], nested={"位号": "PI-101"}),
        event(1, T0 - 5),
    ]
    assert repr(round_trip(records)) == repr(records)
    head = codec.decode_head(codec.encode_segment(records, 9, T0)[0], 9)
    assert head.defines
    assert head.readings == 0
    assert head.series == [(Series(STREAM, EVENTS_DEVICE), 0, 2, T0 - 5, T0)]


def test_unknown_fields_are_passed_over() -> None:
    record = definitions()[0]
    assert isinstance(record, StreamRecord)
    found = {**codec.definition_json(record), "colour": "red"}
    assert codec.definition_from_json(StreamRecord, found) == record


def cases_without_original_times() -> list[BatchRecord]:
    """What lies in tests/cases/log/segment-without-original-times.json."""
    contents: dict[ValueType, list[Any]] = {
        ValueType.BOOL: [True, False, True],
        ValueType.INT64: [-5, 0, 2**63 - 1],
        ValueType.UINT64: [0, 2**64 - 1, 7],
        ValueType.FLOAT32: [20.1, -0.0, 1e30],
        ValueType.FLOAT64: [20.1, 1 / 3, 5e-324],
        ValueType.STRING: ["泵", "", "ok"],
        ValueType.BYTES: [b"\0\xff", b"", b"x"],
        ValueType.JSON: [[1, 2.5], {"a": None}, "t"],
    }
    records = []
    for k, (type, content) in enumerate(contents.items()):
        values = np.empty(3, type.dtype)
        values[:] = as_objects(content)
        batch = Batch.of(
            "boiler-1", type, [0, 3, 3], values, received_time=T0 + k, monotonic=k, valid=[True, True, k != 3],
            status=[0, 0x808B0000, 0x480], source_time=T0 + np.array([0, 100, -7]), basis=[0, 1, 2], flags=[0, 4, 3],
        )  # fmt: skip
        records.append(BatchRecord(STREAM, batch, Origin("urn:厂/server", 7, 2**32 - 1) if k % 2 else None, 7 + 3 * k))
    return records


def test_what_older_versions_wrote_is_read_and_still_written() -> None:
    """The bytes are of a version that knew no original times; without any, the same bytes are written today."""
    stored = json.loads((CASES / "segment-without-original-times.json").read_text(encoding="utf-8"))
    head, body = bytes.fromhex(stored["head"]), bytes.fromhex(stored["body"])
    expected = cases_without_original_times()
    read = codec.decode_head(head, stored["position"])
    assert same_records(codec.decode_body(read, body), expected)
    written, _, _ = codec.encode_segment(expected, stored["position"], T0)
    again = codec.decode_head(written, stored["position"])
    assert (again.raw_bytes, again.readings) == (read.raw_bytes, read.readings)


def test_an_original_time_costs_nothing_where_there_is_none() -> None:
    assert Batch.of("d", ValueType.BOOL, [0, 1], True, received_time=T0, monotonic=0).original_time is None
    batch = Batch.of(
        "d", ValueType.BOOL, [0, 1], True, received_time=T0, monotonic=0, original_time=[NO_TIME, -116_444_736 * 10**9]
    )
    read = only_batch(round_trip([BatchRecord(STREAM, batch, None, 0)]))
    assert read.original_time is not None
    assert read.original_time.tolist() == [NO_TIME, -116_444_736 * 10**9]
    assert read.take(np.array([0])).original_time is None
    (kept,) = read.take(np.array([False, True])).original_time.tolist()  # type: ignore[union-attr]
    assert kept == -116_444_736 * 10**9
    assert read.nbytes - read.take(np.array([0])).nbytes == 19 + 1 + 8 + 8


@pytest.mark.parametrize("annex", [b"", b"\x63\x03\0\0\0abc", b"\x63\0\0\0\0"])
def test_an_unknown_annex_is_passed_over(annex: bytes) -> None:
    batch = Batch.of("d", ValueType.BOOL, [0], True, received_time=T0, monotonic=0, original_time=[5])
    record = BatchRecord(STREAM, batch, None, 0)
    for packed in (codec.pack_record(record) + annex, insert_annex(codec.pack_record(record), annex)):
        head, body, _ = codec.encode_segment([record], 1, T0, [packed])
        assert same_records(codec.decode_body(codec.decode_head(head, 1), body), [record])


def insert_annex(payload: bytes, annex: bytes) -> bytes:
    """Before the annex of the original time of one reading: 5 bytes of head, 9 of column."""
    return payload[:-14] + annex + payload[-14:]


def test_an_annex_that_ends_early_is_corrupt() -> None:
    batch = Batch.of("d", ValueType.BOOL, [0], True, received_time=T0, monotonic=0, original_time=[5])
    record = BatchRecord(STREAM, batch, None, 0)
    payload = codec.pack_record(record)
    for cut in range(1, 14):
        head, body, _ = codec.encode_segment([record], 1, T0, [payload[:-cut]])
        with pytest.raises(LogCorruptError):
            codec.decode_body(codec.decode_head(head, 1), body)


def test_values_that_are_not_there_come_back_empty() -> None:
    values = as_objects([None, "a"])
    batch = Batch.of("d", ValueType.STRING, [0, 1], values, valid=[False, True], received_time=T0, monotonic=0)
    assert only_batch(round_trip([BatchRecord(STREAM, batch, None, 0)])).values.tolist() == ["", "a"]


def test_a_realistic_batch_takes_less_than_11_bytes_per_reading() -> None:
    rng = np.random.default_rng(7)
    values = np.round(rng.normal(80, 12, 1000), 3)
    times = T0 + rng.integers(0, 500_000, 1000) * 100  # OPC UA counts 100 ns, within 50 ms
    batch = Batch.of("d", ValueType.FLOAT64, range(1000), values, source_time=times, received_time=T0, monotonic=0)
    head, body, _ = codec.encode_segment([BatchRecord(STREAM, batch, None, 0)], 1, T0)
    assert (len(head) + len(body)) / 1000 < 11


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ([5] * 9, encodings.CONSTANT),
        (range(100, 1, -7), encodings.RANGE),
        ([2**60, 2**60 + 3, 2**60 + 1], encodings.OFFSETS),
        ([k * 10**13 + k % 3 for k in range(20)], encodings.DELTAS),
        ([0, -(2**63), 2**63 - 1, 5], encodings.RAW),
        ([-(2**63), 0, -(2**63)], encodings.RANGE),
    ],
)
def test_integers_take_the_narrowest_form(values: Any, encoding: int) -> None:
    column = np.array(list(values), np.int64)
    encoded = columns.encode_integers(column)
    assert encoded[0] == encoding
    decoded = columns.decode_column(columns.Reader(encoded), len(column), column.dtype)
    assert decoded.tolist() == column.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", range(7))
def test_decimals_become_integers_and_come_back_to_the_bit(dtype: Any, digits: int) -> None:
    column = (np.random.default_rng(digits).integers(-30_000, 30_000, 200) / 10**digits).astype(dtype)
    encoded = columns.encode_floats(column)
    assert encoded[0] == encodings.DECIMAL
    assert len(encoded) < 3 * 200
    assert columns.decode_column(columns.Reader(encoded), 200, column.dtype).tobytes() == column.tobytes()


@pytest.mark.parametrize("odd", [np.nan, -0.0, np.inf, 1e300, 5e-324, 0.1 + 0.2, 2.0**53])
def test_one_odd_value_keeps_all_bits(odd: float) -> None:
    for place in (0, 13, 99):
        column = np.arange(100) / 8 + 20
        column[place] = odd
        encoded = columns.encode_floats(column)
        assert columns.decode_column(columns.Reader(encoded), 100, column.dtype).tobytes() == column.tobytes()


def test_offsets_that_do_not_follow_on_are_refused() -> None:
    with pytest.raises(ValueError, match="offset 10 expected"):
        codec.encode_segment([reading(0), reading(11)], 1, T0)
    with pytest.raises(ValueError, match="no offset"):
        codec.encode_segment([reading(-1)], 1, T0)


def test_every_flipped_byte_is_found() -> None:
    head, body, _ = codec.encode_segment([reading(0, 3)], 5, T0)
    for index in range(len(head)):
        with pytest.raises(LogCorruptError):
            codec.decode_head(flipped(head, index), 5)
    read = codec.decode_head(head, 5)
    for index in range(len(body)):
        with pytest.raises(LogCorruptError, match="position 5"):
            codec.decode_body(read, flipped(body, index))


def test_a_segment_in_another_place_is_found() -> None:
    head, _, _ = codec.encode_segment([reading(0)], 5, T0)
    with pytest.raises(LogCorruptError, match="says that it is 5"):
        codec.decode_head(head, 6)


def test_a_newer_version_is_named() -> None:
    head = bytearray(codec.encode_segment([reading(0)], 5, T0)[0])
    struct.pack_into("<H", head, 16, 2)
    with pytest.raises(LogFormatError, match="format version 2 found"):
        codec.decode_head(codec._sealed(bytes(head)), 5)


def test_an_unknown_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec._KINDS, StreamRecord, 77)
    record = StreamRecord(STREAM, Labels("production", 1, "general"), T0)
    with pytest.raises(LogFormatError, match="record kind 77"):
        round_trip([record])


@pytest.mark.parametrize(
    "decode",
    [
        lambda reader: columns.decode_column(reader, 1, np.dtype(np.int32)),
        lambda reader: columns.decode_strings(reader, 1),
        columns.decode_json,
    ],
)
def test_an_unknown_encoding_is_named(decode: Any) -> None:
    with pytest.raises(LogFormatError, match="encoding 99"):
        decode(columns.Reader(b"\x63"))


def test_bytes_that_end_early_are_corrupt() -> None:
    encoded = columns.encode_integers(np.array([1, 5, 4], np.int64))
    for length in range(len(encoded)):
        with pytest.raises(LogCorruptError):
            columns.decode_column(columns.Reader(encoded[:length]), 3, np.dtype(np.int64))


def test_an_event_comes_back_equal() -> None:
    (read,) = round_trip([EventRecord(STREAM, T0, {"schema": "gap/1", "points": [1, 2]}, 4)])
    assert read == EventRecord(STREAM, T0, {"schema": "gap/1", "points": [1, 2]}, 4)


def flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes((data[index] ^ 0x10,)) + data[index + 1 :]
