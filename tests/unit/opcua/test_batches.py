"""From items to batches: types, times, flags, losses."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.batches import BUILT_IN, UNIX_EPOCH_TICKS, BatchBuilder, Moment
from adapters.opcua.decoding.decode import Items
from gateway.contract import NO_TIME, Basis, Batch, Flag, Gap, ValueType
from gateway.contract.status import BAD_NODE_ID_UNKNOWN, BAD_TYPE_MISMATCH, OVERFLOW_BITS

NOW = int(datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC).timestamp()) * 10**9
MOMENT = Moment(NOW, 5)
SECOND = 10**9


def ticks(ns: int) -> int:
    return ns // 100 + UNIX_EPOCH_TICKS


def items(
    type: int,
    handles: list[int],
    values: Any,
    *,
    status: Any = 0,
    source: Any = None,
    server: Any = 0,
    order: Any = None,
) -> Items:
    n = len(handles)
    dtype = layouts.FIXED.get(type, "O").replace("V16", "O")
    column = np.zeros(n) if type == layouts.NULL else np.array(values, "?" if type == layouts.BOOLEAN else dtype)
    return Items(
        type,
        False,
        np.array(range(n) if order is None else order, np.int64),
        np.array(handles, np.uint32),
        column,
        np.full(n, status, np.uint32),
        np.full(n, ticks(NOW) if source is None else source, np.int64),
        np.full(n, server, np.int64),
    )


def builder(types: dict[int, str | None] | None = None, clock: ClockRule = "trust") -> BatchBuilder:
    types = types or dict.fromkeys(range(8))
    return BatchBuilder(
        "d", {i: BUILT_IN[t] if t else layouts.NULL for i, t in types.items()}, clock, NOW - 60 * SECOND
    )


def only(batches: list[Batch]) -> Batch:
    (batch,) = batches
    return batch


@pytest.mark.parametrize(
    ("type", "value", "expected"),
    [
        (layouts.BOOLEAN, True, ValueType.BOOL),
        (layouts.SBYTE, -1, ValueType.INT64),
        (layouts.INT64, -(2**63), ValueType.INT64),
        (layouts.BYTE, 255, ValueType.UINT64),
        (layouts.UINT64, 2**64 - 1, ValueType.UINT64),
        (layouts.STATUSCODE, 0x80000000, ValueType.UINT64),
        (layouts.FLOAT, 1.5, ValueType.FLOAT32),
        (layouts.DOUBLE, 20.1, ValueType.FLOAT64),
        (layouts.STRING, "x", ValueType.STRING),
        (layouts.BYTESTRING, b"x", ValueType.BYTES),
        (22, {"a": 1}, ValueType.JSON),
    ],
)
def test_value_types(type: int, value: Any, expected: ValueType) -> None:
    batch = only(builder().build([items(type, [3], [value])], MOMENT).batches)
    assert (batch.type, batch.values.dtype) == (expected, expected.dtype)
    assert batch.values[0] == value
    assert batch.points.tolist() == [3]
    assert batch.valid.all()
    assert (batch.received_time, batch.monotonic, batch.device) == (NOW, 5, "d")


def test_types_of_equal_kind_share_a_batch_in_order() -> None:
    batch = only(
        builder()
        .build(
            [items(layouts.INT16, [1, 1], [10, 30], order=[0, 2]), items(layouts.INT32, [1], [20], order=[1])], MOMENT
        )
        .batches
    )
    assert batch.values.tolist() == [10, 20, 30]


def test_a_null_goes_where_its_point_last_was() -> None:
    b = builder({1: None, 2: None, 3: "string"})
    b.build([items(layouts.BOOLEAN, [1], [True])], MOMENT)
    built = b.build([items(layouts.NULL, [1, 2, 3], None, status=0x80310000)], MOMENT)
    assert {batch.type: batch.points.tolist() for batch in built.batches} == {
        ValueType.BOOL: [1],
        ValueType.FLOAT64: [2],
        ValueType.STRING: [3],
    }
    assert not any(batch.valid.any() for batch in built.batches)
    assert all(batch.status.tolist() == [0x80310000] for batch in built.batches)


def test_a_null_keeps_its_place_among_values() -> None:
    batch = only(
        builder()
        .build(
            [items(layouts.DOUBLE, [1, 1], [1.0, 3.0], order=[0, 2]), items(layouts.NULL, [1], None, order=[1])], MOMENT
        )
        .batches
    )
    assert batch.valid.tolist() == [True, False, True]
    assert batch.values[[0, 2]].tolist() == [1.0, 3.0]


LONG_AGO = ticks(NOW - 40 * 365 * 86400 * SECOND)
TOMORROW = ticks(NOW + 25 * 3600 * SECOND)


@pytest.mark.parametrize(
    ("clock", "source", "server", "time", "basis"),
    [
        ("trust", ticks(NOW - 7), ticks(NOW), NOW - 100, Basis.SOURCE),
        ("trust", 0, ticks(NOW - SECOND), NOW - SECOND, Basis.SERVER),
        ("trust", LONG_AGO, ticks(NOW - SECOND), NOW - SECOND, Basis.SERVER),
        ("trust", 0, 0, NOW, Basis.GATEWAY),
        ("trust", LONG_AGO, TOMORROW, NOW, Basis.GATEWAY),
        ("trust", -(2**63), 2**63 - 1, NOW, Basis.GATEWAY),
        ("server", ticks(NOW - 9 * SECOND), ticks(NOW - SECOND), NOW - SECOND, Basis.SERVER),
        ("gateway", ticks(NOW - 9 * SECOND), ticks(NOW - SECOND), NOW, Basis.GATEWAY),
        (ClockShift(shift="8h"), ticks(NOW + 8 * 3600 * SECOND), 0, NOW, Basis.SOURCE),
        (ClockShift(shift="-1h"), ticks(NOW - 3600 * SECOND), 0, NOW, Basis.SOURCE),
    ],
)
def test_times(clock: ClockRule, source: int, server: int, time: int, basis: Basis) -> None:
    batch = only(
        builder(clock=clock).build([items(layouts.DOUBLE, [1], [0.0], source=source, server=server)], MOMENT).batches
    )
    assert (batch.source_time.tolist(), batch.basis.tolist()) == ([time], [basis])


NULL_TIME, LAST_TIME = -UNIX_EPOCH_TICKS, 253_402_300_799 * 10**7
FROM_2000 = UNIX_EPOCH_TICKS + 946_684_800 * 10**7
NEVER = 2**63 - 1
"""DateTime.MaxValue: 9999-12-31T23:59:59Z or later (Part 6, 5.2.2.5)"""


@pytest.mark.parametrize(
    ("clock", "source", "server", "basis", "original"),
    [
        ("trust", ticks(NOW), 0, Basis.SOURCE, None),
        ("trust", ticks(NOW), UNIX_EPOCH_TICKS, Basis.SOURCE, None),
        ("trust", 0, ticks(NOW), Basis.SERVER, None),
        ("trust", 0, 0, Basis.GATEWAY, None),
        ("trust", -(2**63), -1, Basis.GATEWAY, None),
        ("trust", 1, ticks(NOW), Basis.SERVER, NULL_TIME + 1),
        ("trust", UNIX_EPOCH_TICKS, ticks(NOW), Basis.SERVER, 0),
        ("trust", LONG_AGO, 0, Basis.GATEWAY, LONG_AGO - UNIX_EPOCH_TICKS),
        ("trust", TOMORROW, UNIX_EPOCH_TICKS, Basis.GATEWAY, TOMORROW - UNIX_EPOCH_TICKS),
        ("trust", 0, UNIX_EPOCH_TICKS, Basis.GATEWAY, 0),
        ("trust", NEVER, ticks(NOW), Basis.SERVER, LAST_TIME),
        ("server", ticks(NOW), UNIX_EPOCH_TICKS, Basis.GATEWAY, 0),
        ("server", UNIX_EPOCH_TICKS, ticks(NOW), Basis.SERVER, None),
        ("gateway", UNIX_EPOCH_TICKS, NEVER, Basis.GATEWAY, None),
        (ClockShift(shift="8h"), ticks(NOW + 8 * 3600 * SECOND), 0, Basis.SOURCE, None),
        (ClockShift(shift="8h"), UNIX_EPOCH_TICKS, 0, Basis.GATEWAY, 0),
        (ClockShift(shift="-8h"), NEVER, 0, Basis.GATEWAY, LAST_TIME),
    ],
)
def test_a_time_that_is_not_credible_is_kept_beside_the_one_taken(
    clock: ClockRule, source: int, server: int, basis: Basis, original: int | None
) -> None:
    batch = only(
        builder(clock=clock).build([items(layouts.DOUBLE, [1], [0.0], source=source, server=server)], MOMENT).batches
    )
    assert batch.basis.tolist() == [basis]
    assert (None if batch.original_time is None else batch.original_time.tolist()) == (
        None if original is None else [original]
    )


ANY_TICKS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(ticks(NOW) - 2 * 86_400 * 10**7, ticks(NOW) + 2 * 86_400 * 10**7)
    | st.sampled_from([0, 1, NEVER, UNIX_EPOCH_TICKS, FROM_2000])
)


@given(
    st.lists(st.tuples(ANY_TICKS, ANY_TICKS), min_size=1, max_size=6),
    st.sampled_from(["trust", "server", "gateway", ClockShift(shift="8h"), ClockShift(shift="-5.5h")]),
)
def test_every_reading_has_a_credible_time_and_nothing_is_forgotten(
    stamps: list[tuple[int, int]], clock: ClockRule
) -> None:
    n = len(stamps)
    source, server = (np.array(column, np.int64) for column in zip(*stamps, strict=True))
    found = items(layouts.DOUBLE, [1] * n, [0.0] * n, source=source, server=server)
    batch = only(builder(clock=clock).build([found], MOMENT).batches)
    shift = round(clock.shift * 10**7) if isinstance(clock, ClockShift) else 0
    asked = {"server": [Basis.SERVER], "gateway": []}.get(str(clock), [Basis.SOURCE, Basis.SERVER])
    for k, (from_source, from_server) in enumerate(stamps):
        time, basis, original = NOW, Basis.GATEWAY, NO_TIME
        for candidate in asked:
            stamp = from_source if candidate == Basis.SOURCE else from_server
            if FROM_2000 <= stamp - shift <= ticks(NOW) + 86_400 * 10**7:
                time, basis = (stamp - shift - UNIX_EPOCH_TICKS) * 100, candidate
                break
            if stamp > 0 and original == NO_TIME:
                original = min(stamp - UNIX_EPOCH_TICKS, LAST_TIME)
        assert (batch.source_time[k], batch.basis[k]) == (time, basis)
        assert (NO_TIME if batch.original_time is None else batch.original_time[k]) == original
    assert batch.original_time is None or (batch.original_time != NO_TIME).any()


def test_the_first_reading_after_creation_is_initial() -> None:
    b = builder()
    b.created([1, 2])
    first = only(b.build([items(layouts.DOUBLE, [1, 1, 3], [0.0, 1.0, 2.0])], MOMENT).batches)
    assert first.flags.tolist() == [Flag.INITIAL, 0, 0]
    second = only(b.build([items(layouts.DOUBLE, [1, 2], [0.0, 1.0])], MOMENT).batches)
    assert second.flags.tolist() == [0, Flag.INITIAL]


def test_overflow_is_flagged_and_a_gap_per_point() -> None:
    b = builder()
    at = [NOW - n * SECOND for n in (9, 8, 7, 6)]
    b.build([items(layouts.DOUBLE, [1], [0.0], source=ticks(at[0]))], MOMENT)
    built = b.build(
        [
            items(
                layouts.DOUBLE,
                [1, 2, 1],
                [0.0] * 3,
                source=[ticks(at[1]), ticks(at[2]), ticks(at[3])],
                status=[OVERFLOW_BITS, 0, 0x40000000 | OVERFLOW_BITS],
            )
        ],
        MOMENT,
    )
    assert only(built.batches).flags.tolist() == [Flag.OVERFLOW, 0, Flag.OVERFLOW]
    assert built.gaps == [Gap((1,), at[0], at[1], "overflow"), Gap((1,), at[1], at[3], "overflow")]


def test_overflow_needs_the_info_type() -> None:
    """Bit 7 counts only with InfoType DataValue (Part 4, 7.39.1)."""
    built = builder().build([items(layouts.DOUBLE, [1], [0.0], status=0x80)], MOMENT)
    assert built.gaps == []
    assert only(built.batches).flags.tolist() == [0]


def test_strangers_are_left_out() -> None:
    built = builder({2: None}).build([items(layouts.DOUBLE, [2, 1, 4000000000], [1.0, 2.0, 3.0])], MOMENT)
    assert only(built.batches).points.tolist() == [2]
    assert built.strangers == 2
    assert builder({2: None}).build([items(layouts.DOUBLE, [9], [1.0])], MOMENT).batches == []


def test_vanished_nodes_are_reported() -> None:
    built = builder().build([items(layouts.NULL, [4, 5], None, status=[BAD_NODE_ID_UNKNOWN, 0x808C0000])], MOMENT)
    assert built.vanished.tolist() == [4]


def test_a_refused_point_reads_bad_once_and_is_not_initial() -> None:
    b = builder()
    b.created([1])
    batch = only(b.bad([1], [BAD_NODE_ID_UNKNOWN], MOMENT))
    assert (batch.points.tolist(), batch.status.tolist(), batch.valid.tolist()) == ([1], [BAD_NODE_ID_UNKNOWN], [False])
    assert (batch.basis.tolist(), batch.flags.tolist()) == ([Basis.GATEWAY], [0])


@pytest.mark.parametrize(
    ("configured", "type", "values", "kept"),
    [
        ("int16", layouts.INT32, [5, 32767, 32768, -32769], [5, 32767, None, None]),
        ("uint8", layouts.INT16, [0, 255, -1, 256], [0, 255, None, None]),
        ("int64", layouts.UINT64, [1, 2**63 - 1, 2**63], [1, 2**63 - 1, None]),
        ("uint64", layouts.INT64, [1, -1], [1, None]),
        ("int32", layouts.DOUBLE, [5.0, 5.5, 2.0**31, float("nan"), float("inf")], [5, None, None, None, None]),
        ("int64", layouts.DOUBLE, [-(2.0**63), 2.0**63], [-(2**63), None]),
        ("float64", layouts.INT64, [2**53, 2**53 + 1], [2.0**53, None]),
        ("float64", layouts.FLOAT, [1.5, float("inf")], [1.5, float("inf")]),
        ("float32", layouts.DOUBLE, [1.5, 20.1, 1e300], [1.5, None, None]),
        ("bool", layouts.BYTE, [0, 1, 2], [False, True, None]),
        ("uint8", layouts.BOOLEAN, [True, False], [1, 0]),
        ("float64", layouts.STRING, ["1.5"], [None]),
        ("string", layouts.DOUBLE, [1.5], [None]),
    ],
)
def test_configured_type_casts_what_loses_nothing(
    configured: str, type: int, values: list[Any], kept: list[Any]
) -> None:
    batch = only(builder({1: configured}).build([items(type, [1] * len(values), values)], MOMENT).batches)
    assert [value if ok else None for value, ok in zip(batch.values.tolist(), batch.valid, strict=True)] == kept
    assert batch.status.tolist() == [0 if ok else BAD_TYPE_MISMATCH for ok in batch.valid]


INTEGERS = range(layouts.SBYTE, layouts.UINT64 + 1)
INTEGER_NAMES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
EDGES = sorted(
    {s * ((1 << b) + d) for b in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64) for d in (-1, 0, 1) for s in (1, -1)}
)


@pytest.mark.parametrize("configured", ["bool", *INTEGER_NAMES, "float32", "float64"])
@pytest.mark.parametrize("type", INTEGERS)
def test_integers_at_the_edges_of_every_type(configured: str, type: int) -> None:
    """Against Python's numbers, which have no edges."""
    sent = np.dtype(layouts.FIXED[type])
    values = [value for value in EDGES if np.iinfo(sent).min <= value <= np.iinfo(sent).max]
    if configured.startswith("float"):
        column = np.array([float(value) for value in values], configured)
        kept = [int(float(cast)) == value for cast, value in zip(column, values, strict=True)]
    else:
        low, high = (0, 1) if configured == "bool" else (np.iinfo(configured).min, np.iinfo(configured).max)
        kept = [int(low) <= value <= int(high) for value in values]
    batch = only(builder({1: configured}).build([items(type, [1] * len(values), values)], MOMENT).batches)
    assert batch.valid.tolist() == kept
    assert [int(value) for value in batch.values[batch.valid]] == [
        value for value, ok in zip(values, kept, strict=True) if ok
    ]


def test_only_points_with_another_type_are_cast() -> None:
    built = builder({1: "int16", 2: None, 3: "float64"}).build(
        [items(layouts.DOUBLE, [1, 2, 3], [1.5, 2.5, 3.5])], MOMENT
    )
    assert {batch.type: batch.points.tolist() for batch in built.batches} == {
        ValueType.INT64: [1],
        ValueType.FLOAT64: [2, 3],
    }
