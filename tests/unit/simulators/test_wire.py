"""Decoding of both reading formats, from the published format alone."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from simulators.centre.wire import WireError, decode, decompress, parse, parse_time
from tests.support.messages import columns, readings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-20T08:00:00.123456789Z", 1_795_161_600_123_456_789),
        ("2026-11-20T08:00:00.5Z", 1_795_161_600_500_000_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time(text) == expected


def test_time_that_is_none() -> None:
    with pytest.raises(WireError, match="not a UTC time"):
        parse_time("2026-11-20T08:00:00+08:00")


def test_objects() -> None:
    message = readings(7, [1.5, None, "NaN"], basis="gateway")
    message["readings"][1] |= {"q": "bad", "s": "0x808B0000", "basis": "source", "flags": ["initial", "maintenance"]}
    got = decode(message)
    assert got.points == [("level", "88.118.8/boiler-1.level")] * 3
    assert got.values == ["1.5", "null", '"NaN"']
    assert got.status == [0, 0x808B0000, 0]
    assert got.basis == [2, 0, 2]
    assert got.flags == [0, 12, 0]
    assert got.times[0] == parse_time("2026-11-20T08:00:07.5Z")


def test_columns_say_the_same() -> None:
    a, b = decode(readings(3, [1, True, 2**64 - 1])), decode(columns(3, [1, True, 2**64 - 1]))
    assert (a.times, a.values, a.status, a.basis, a.flags) == (b.times, b.values, b.status, b.basis, b.flags)
    assert a.values == ["1", "true", "18446744073709551615"]
    assert b.indexes == [0, 0, 0]


def test_original_times_are_kept_as_they_are_written() -> None:
    message = readings(0, [1, 2, 3])
    message["readings"][1]["ot"] = "1601-01-01T00:00:00.0000001Z"
    assert decode(message).originals == [None, "1601-01-01T00:00:00.0000001Z", None]
    assert decode(columns(0, [1, 2])).originals == [None, None]
    assert decode(columns(0, [1, 2], ot="9999-12-31T23:59:59Z")).originals == ["9999-12-31T23:59:59Z"] * 2
    assert decode(columns(0, [1, 2], ot=[None, "1970-01-01T00:00:00Z"])).originals == [None, "1970-01-01T00:00:00Z"]
    with pytest.raises(WireError, match="count is"):
        decode(columns(0, [1, 2], ot=[None]))


def test_columns_scalars_stand_for_all() -> None:
    got = decode(columns(0, [1, 2], dt=0, s=0x40930000, basis=2, flags=4))
    assert got.times[0] == got.times[1]
    assert (got.status, got.basis, got.flags) == ([0x40930000] * 2, [2, 2], [4, 4])


def test_count_that_disagrees() -> None:
    for message in (readings(0, [1, 2], count=3), columns(0, [1, 2], count=3), columns(0, [1, 2], dt=[0])):
        with pytest.raises(WireError, match="count is"):
            decode(message)


def test_quality_that_disagrees_with_the_status() -> None:
    message = readings(0, [1])
    message["readings"][0]["s"] = "0x808B0000"
    with pytest.raises(WireError, match="quality good with status 0x808B0000"):
        decode(message)


def test_compression_by_name_and_by_first_bytes() -> None:
    for packed, name in ((gzip.compress(b"{}"), "gzip"), (zstandard.compress(b"{}"), "zstd"), (b"{}", None)):
        assert decompress(packed) == decompress(packed, name) == b"{}"
    with pytest.raises(WireError, match="not gzip"):
        decompress(b"{}", "gzip")
    with pytest.raises(WireError, match="unknown content encoding"):
        decompress(b"{}", "br")
    with pytest.raises(WireError, match="not an object"):
        parse(b"[]")
