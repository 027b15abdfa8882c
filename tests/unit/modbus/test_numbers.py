"""Sign and magnitude, special numbers, totalisers and times in registers, against encoders written with struct."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.modbus.address import Table
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.planner import Limits, Span, plan
from adapters.modbus.totals import Totals
from gateway.contract import Flag, Point, ValueType
from gateway.contract.status import BAD_OUT_OF_RANGE, BAD_SENSOR_FAILURE, GOOD
from tests.unit.modbus.test_decode import FORMATS, arrange, config, decode, orders, readings

SIGNED = ("int16", "int32", "int64")


@pytest.mark.parametrize("type", SIGNED)
@given(data=st.data())
def test_sign_and_magnitude(type: str, data: st.DataObject) -> None:
    bits = int(type[3:])
    amount, negative = data.draw(st.integers(0, 2 ** (bits - 1) - 1)), data.draw(st.booleans())
    order = data.draw(st.sampled_from(orders(type)))
    raw = (amount | negative << (bits - 1)).to_bytes(bits // 8, "big")
    (batch,) = decode(
        [config("holding 0", type=type, order=order, sign="magnitude")], {Table.HOLDING: arrange(raw, order)}
    )
    assert batch.type is ValueType.INT64
    assert batch.values.tolist() == [-amount if negative else amount]


@given(st.integers(0, 7_999_9999), st.booleans())
def test_signed_bcd(amount: int, negative: bool) -> None:
    raw = bytearray(bytes.fromhex(f"{amount:08d}"))
    raw[0] |= negative << 7
    (batch,) = decode([config("holding 0", type="bcd", length=2, sign="magnitude")], {Table.HOLDING: bytes(raw)})
    assert batch.type is ValueType.INT64
    assert batch.values.tolist() == [-amount if negative else amount]


@pytest.mark.parametrize("type", FORMATS)
@given(data=st.data())
def test_special_numbers_are_bad_and_others_are_not(type: str, data: st.DataObject) -> None:
    """Each point has its own special numbers; a neighbour's mean nothing to it."""
    order = data.draw(st.sampled_from(orders(type)))
    lists = data.draw(st.lists(st.lists(_numbers(type), min_size=1, max_size=4), min_size=1, max_size=5))
    sent = [data.draw(st.one_of(st.sampled_from(special), _numbers(type))) for special in lists]
    words = struct.calcsize(FORMATS[type]) // 2
    configs = [
        config(f"holding {words * i}", type=type, order=order, invalid=special) for i, special in enumerate(lists)
    ]
    memory = b"".join(arrange(struct.pack(FORMATS[type], number), order) for number in sent)
    found = readings(decode(configs, {Table.HOLDING: memory}))
    for i, (number, special) in enumerate(zip(sent, lists, strict=True)):
        expected = any(number == other or (math.isnan(number) and math.isnan(other)) for other in special)
        assert found[i][1:] == ((False, BAD_SENSOR_FAILURE) if expected else (True, GOOD))


def _numbers(type: str) -> st.SearchStrategy[Any]:
    if type.startswith("float"):
        return st.floats(width=int(type[5:]))  # type: ignore[arg-type]
    bits = int(type.lstrip("uint"))
    return st.integers(0, 2**bits - 1) if type[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def test_special_numbers_are_written_as_manuals_do() -> None:
    points = [
        config("holding 0", type="int16", invalid=[0x8000]),
        config("holding 1", type="int16", invalid=[-1]),
        config("holding 2", type="uint16", invalid=[-1]),
        config("holding 3", type="float32", invalid=[math.nan, -9999]),
        config("holding 5", type="int16", sign="magnitude", invalid=[0xFFFF]),
        config("holding 6", type="int8", invalid=[0x80]),
        config("holding 7", type="uint16"),
    ]
    memory = bytes.fromhex("8000 ffff ffff 7fc00000 ffff 0080 ffff")
    found = readings(decode(points, {Table.HOLDING: memory}))
    assert [found[i][2] for i in range(7)] == [BAD_SENSOR_FAILURE] * 6 + [GOOD]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"type": "int16", "invalid": [70000]}, "invalid: 70000 does not fit into int16"),
        ({"type": "uint16", "invalid": [1.5]}, r"invalid: 1.5 does not fit into uint16"),
        ({"type": "string", "length": 2, "invalid": [1]}, "invalid is for integers and floats"),
        ({"type": "uint16", "count": 2, "invalid": [1]}, "not for uint16 with count"),
        ({"type": "uint16", "sign": "magnitude"}, "sign: magnitude is for int16"),
        ({"type": "float32", "totaliser": True}, r"write totaliser: \{range: 1e6\}"),
        ({"type": "bool", "totaliser": True}, "a totaliser is one number"),
        ({"type": "timestamp"}, "needs a format"),
        ({"type": "int16", "format": "unix"}, "format is only for type timestamp"),
        ({"type": "timestamp", "format": "bcd", "zone": "Shandong"}, "expected a time zone such as Asia/Shanghai"),
        ({"type": "timestamp", "format": "bcd", "count": 2}, "count cannot be combined with timestamp"),
    ],
)
def test_wrong_keys(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config("holding 0", **keys)


class _Meter:
    """One totaliser that is read again and again."""

    def __init__(self, **keys: Any) -> None:
        self._config = config("holding 0", **keys)
        self._points = [Point(7, self._config)]
        blocks = plan(Table.HOLDING, [Span(0, self._config.cells, 0)], Limits())
        self._layout = Layout("d", self._points, blocks, Totals(self._points))

    def read(self, raw: bytes | None) -> int:
        replies = Replies([raw], [GOOD if raw is not None else 0x800A0000], [True], [1])
        (batch,) = self._layout.decode(replies, 1, 1)
        return int(batch.flags[0])


def test_totalisers_wrap_and_reset() -> None:
    meter = _Meter(type="uint16", totaliser=True)
    flags = [meter.read(struct.pack(">H", n)) for n in (60_000, 65_000, 65_535, 3, 3, 50_000, 10, 20)]
    assert flags == [0, 0, 0, Flag.WRAPPED, 0, 0, Flag.RESET, 0]


def test_a_totaliser_has_its_own_range_and_an_outage_is_no_reset() -> None:
    meter = _Meter(type="float32", totaliser={"range": 1e6})
    sent = [999_000.0, None, 999_999.0, 12.0, None, 5.0]
    flags = [meter.read(None if value is None else struct.pack(">f", value)) for value in sent]
    assert flags == [0, 0, 0, Flag.WRAPPED, 0, Flag.RESET]


def test_the_first_reading_and_sentinels_are_never_a_reset() -> None:
    meter = _Meter(type="uint16", totaliser=True, invalid=[0])
    assert [meter.read(struct.pack(">H", n)) for n in (500, 0, 501)] == [0, 0, 0]


def test_what_a_totaliser_counts_up_to() -> None:
    ranges = {
        ("uint8", None): 256,
        ("int8", None): 128,
        ("uint16", None): 65_536,
        ("int16", None): 32_768,
        ("uint32", None): 2.0**32,
        ("uint64", None): 2.0**64,
        ("bcd", 2): 10**8,
    }
    for (type, length), most in ranges.items():
        keys = {"length": length} if length else {}
        assert config("holding 0", type=type, totaliser=True, **keys).totaliser_range == most


def test_flags_are_found_by_index_and_not_by_place() -> None:
    points = [Point(i, config(f"holding {i}", type="uint16", totaliser=i % 2 == 1)) for i in range(6)]
    totals = Totals(points)
    index = np.array([5, 0, 3], np.int32)
    good = np.ones(3, np.bool_)
    assert totals.flags(index, np.array([9, 9, 9], np.uint64), good) is None
    found = totals.flags(index, np.array([8, 8, 9], np.uint64), good)
    assert found is not None
    assert found.tolist() == [Flag.RESET, 0, 0]


def _time(raw: bytes, format: str, **keys: Any) -> tuple[Any, bool, int]:
    found: tuple[Any, bool, int] = readings(
        decode([config("holding 0", type="timestamp", format=format, **keys)], {Table.HOLDING: raw})
    )[0]
    return found


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_times_in_every_format(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    text = moment.isoformat() + "Z"
    seconds = int((moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    assert _time(struct.pack(">I", seconds), "unix")[0] == text
    assert _time(struct.pack(">Q", 1000 * seconds), "unix-ms")[0] == text
    assert _time(struct.pack(">6H", *fields), "calendar")[0] == text
    assert _time(bytes.fromhex(moment.strftime("%y%m%d%H%M%S")), "bcd")[0] == text
    iec = struct.pack(
        ">4H",
        moment.year - 2000,
        moment.month << 8 | (moment.isoweekday() << 5) | moment.day,
        moment.hour << 8 | moment.minute,
        1000 * moment.second,
    )
    assert _time(iec, "iec")[0] == text
    local = (moment - timedelta(hours=8)).isoformat() + "Z"
    assert _time(struct.pack(">6H", *fields), "calendar", zone="Asia/Shanghai")[0] == local


@pytest.mark.parametrize(
    ("raw", "format"),
    [
        (bytes(4), "unix"),
        (bytes(8), "unix-ms"),
        (b"\xff" * 8, "unix-ms"),
        (bytes(12), "calendar"),
        (b"\xff" * 12, "calendar"),
        (bytes.fromhex("26113a000000"), "bcd"),
        (bytes.fromhex("260230000000"), "bcd"),
        (bytes.fromhex("001a 0b15 0880 0000"), "iec"),
        (bytes.fromhex("001a 0b15 0800 ffff"), "iec"),
    ],
)
def test_what_is_no_moment_is_bad(raw: bytes, format: str) -> None:
    assert _time(raw, format)[1:] == (False, BAD_OUT_OF_RANGE)
