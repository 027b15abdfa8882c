"""The decoder against asyncua, over types, timestamp layouts, statuses and runs; and against bad bytes."""

from __future__ import annotations

import datetime
import math
import struct
import uuid
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.decode import Items, decode_items, decode_values
from adapters.opcua.decoding.envelope import READ_RESPONSE, Published, read_header, read_publish, read_republish
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.variant import DecodeError, format_guid, format_ticks
from gateway.contract.status import BAD_DECODING_ERROR

T = ua.VariantType
TIME = datetime.datetime(2026, 5, 6, 7, 8, 9, 123456)
LATER = datetime.datetime(2026, 5, 6, 7, 8, 10, 654321)
EPOCH = datetime.datetime(1601, 1, 1)


def ticks(time: datetime.datetime | None) -> int:
    if time is None:
        return 0
    delta = time.replace(tzinfo=None) - EPOCH
    return (delta.days * 86400 + delta.seconds) * 10**7 + delta.microseconds * 10


text = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS: dict[ua.VariantType, st.SearchStrategy[Any]] = {
    T.Boolean: st.booleans(),
    T.SByte: st.integers(-128, 127),
    T.Byte: st.integers(0, 255),
    T.Int16: st.integers(-(2**15), 2**15 - 1),
    T.UInt16: st.integers(0, 2**16 - 1),
    T.Int32: st.integers(-(2**31), 2**31 - 1),
    T.UInt32: st.integers(0, 2**32 - 1),
    T.Int64: st.integers(-(2**63), 2**63 - 1),
    T.UInt64: st.integers(0, 2**64 - 1),
    T.Float: st.floats(width=32),
    T.Double: st.floats(),
    T.String: text,
    T.Guid: st.uuids(),
    T.ByteString: st.binary(max_size=8),
    T.LocalizedText: text.map(lambda t: ua.LocalizedText(t, "de")),
    T.QualifiedName: text.map(lambda t: ua.QualifiedName(t, 3)),
    T.NodeId: text.map(lambda t: ua.NodeId(t, 4)),
}
ARRAYS = (T.Boolean, T.Byte, T.Int16, T.UInt64, T.Float, T.Double, T.String)


@st.composite
def data_values(draw: st.DrawFn) -> list[tuple[int, ua.DataValue]]:
    """Items as runs: some long enough for numpy, most of one."""
    items: list[tuple[int, ua.DataValue]] = []
    for _ in range(draw(st.integers(0, 12))):
        type = draw(st.sampled_from([*SCALARS, None]))
        array = type in ARRAYS and draw(st.booleans())
        status = draw(st.sampled_from([None, 0, 0x480, 0x40900000, 0x80310000]))
        source, server = draw(st.sampled_from([None, TIME])), draw(st.sampled_from([None, LATER]))
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 40]))):
            value: Any = None
            if type is not None:
                value = draw(st.lists(SCALARS[type], max_size=3)) if array else draw(SCALARS[type])
            items.append(
                (
                    draw(st.integers(0, 2**32 - 1)),
                    ua.DataValue(
                        ua.Variant(value, type or T.Null, is_array=array),
                        None if status is None else ua.StatusCode(ua.UInt32(status)),
                        source,
                        server,
                    ),
                )
            )
    return items


def response(items: list[tuple[int, ua.DataValue]], sequence: int = 5) -> bytes:
    change = ua.DataChangeNotification(
        MonitoredItems=[ua.MonitoredItemNotification(handle, value) for handle, value in items]
    )
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = 77
    answer.Parameters.AvailableSequenceNumbers = [3, 4, 5]
    answer.Parameters.NotificationMessage.SequenceNumber = sequence
    answer.Parameters.NotificationMessage.PublishTime = TIME
    answer.Parameters.NotificationMessage.NotificationData = [change]
    answer.Parameters.Results = [ua.StatusCode()]
    return struct_to_binary(answer)


def decode(data: bytes) -> tuple[Published, list[Items]]:
    published = read_publish(data)
    if published.message is None:
        return published, []
    return published, [
        items for start, end in published.message.data_changes for items in decode_items(data, start, end, decode_other)
    ]


def rows(found: list[Items]) -> list[tuple[Any, ...]]:
    """(handle, type, array, value, status, source, server) in the order of the notification."""
    unordered = []
    for items in found:
        assert len({len(column) for column in (items.order, items.handles, items.values, items.status)}) == 1
        assert (np.diff(items.order) > 0).all(), "rows keep their order"
        for row in range(len(items)):
            value = items.values[row]
            value = value.item() if isinstance(value, np.generic) and items.type != layouts.GUID else value
            if items.type == layouts.GUID and not items.array:
                value = format_guid(value.tobytes())
            unordered.append(
                (
                    int(items.order[row]),
                    (
                        int(items.handles[row]),
                        items.type,
                        items.array,
                        None if items.type == layouts.NULL else value,
                        int(items.status[row]),
                        int(items.source[row]),
                        int(items.server[row]),
                    ),
                )
            )
    assert sorted(order for order, _ in unordered) == list(range(len(unordered)))
    return [row for _, row in sorted(unordered, key=lambda pair: pair[0])]


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    if isinstance(value, ua.LocalizedText):
        return value.Text
    if isinstance(value, ua.QualifiedName):
        return value.Name
    if isinstance(value, ua.NodeId):
        return value.to_string()
    return str(value) if isinstance(value, uuid.UUID) else value


def expected(items: list[tuple[int, ua.DataValue]]) -> list[tuple[Any, ...]]:
    found = []
    for handle, value in items:
        assert value.Value is not None
        content = plain(value.Value.Value)
        found.append(
            (
                handle,
                0 if content is None else value.Value.VariantType.value,
                content is not None and value.Value.is_array,
                content,
                0 if value.StatusCode is None else int(value.StatusCode.value),
                ticks(value.SourceTimestamp),
                ticks(value.ServerTimestamp),
            )
        )
    return found


def same(left: Any, right: Any) -> bool:
    """Equal, where NaN equals NaN."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) is isinstance(right, bool) and left == right


@settings(max_examples=150, deadline=None)
@given(data_values())
def test_decodes_what_asyncua_encodes(items: list[tuple[int, ua.DataValue]]) -> None:
    published, found = decode(response(items))
    assert published.message is not None
    assert (published.subscription, published.message.sequence) == (77, 5)
    assert published.message.publish_time == ticks(TIME)
    for actual, wanted in zip(rows(found), expected(items), strict=True):
        assert same(actual, wanted)


def read_answer(items: list[tuple[int, ua.DataValue]]) -> bytes:
    answer = ua.ReadResponse(Results=[value for _, value in items])
    answer.ResponseHeader.StringTable = ["a", "b"]
    return struct_to_binary(answer)


def decode_read(data: bytes, handles: list[int]) -> list[Items]:
    result, start = read_header(data, READ_RESPONSE, "ReadResponse")
    assert result == 0
    assert start is not None
    return decode_values(data, start, np.array(handles, np.uint32), decode_other)


@settings(max_examples=150, deadline=None)
@given(data_values())
def test_decodes_the_values_of_a_read_that_asyncua_encodes(items: list[tuple[int, ua.DataValue]]) -> None:
    found = decode_read(read_answer(items), [handle for handle, _ in items])
    for actual, wanted in zip(rows(found), expected(items), strict=True):
        assert same(actual, wanted)


@settings(max_examples=60, deadline=None)
@given(data_values(), st.data())
def test_a_truncated_read_is_an_error(items: list[tuple[int, ua.DataValue]], data: st.DataObject) -> None:
    whole = read_answer(items)
    with pytest.raises(DecodeError):
        decode_read(whole[: data.draw(st.integers(0, len(whole) - 1))], [handle for handle, _ in items])


@pytest.mark.parametrize("count", [0, 2, 4, 2**31 - 1, -1])
def test_a_read_with_another_number_of_values_is_an_error(count: int) -> None:
    data = bytearray(read_answer([(n, ua.DataValue(ua.Variant(n))) for n in range(3)]))
    _, start = read_header(bytes(data), READ_RESPONSE, "ReadResponse")
    assert start is not None
    data[start : start + 4] = struct.pack("<i", count)
    with pytest.raises(DecodeError, match="values for 3 nodes"):
        decode_read(bytes(data), [0, 1, 2])


def test_a_fault_in_place_of_a_read_is_told_by_its_status() -> None:
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80100000))
    assert read_header(struct_to_binary(fault), READ_RESPONSE, "ReadResponse") == (0x80100000, None)
    with pytest.raises(DecodeError, match="expected a ReadResponse"):
        read_header(response([]), READ_RESPONSE, "ReadResponse")


def test_values_of_a_read_keep_what_is_hard_to_keep() -> None:
    """Not-a-number, infinities, a matrix, a Variant in a Variant, bytes: as in a notification."""
    nested = ua.Variant([ua.Variant([1.5], T.Double), ua.Variant("a", T.String)], T.Variant)
    matrix = ua.Variant([[1, 2], [3, 4]], T.Int32, Dimensions=[2, 2])
    values = [
        ua.Variant(math.nan, T.Double),
        ua.Variant(-math.inf, T.Double),
        matrix,
        nested,
        ua.Variant(b"\x00\xff", T.ByteString),
        ua.Variant([b"\x01"], T.ByteString),
        ua.Variant(math.inf, T.Float),
    ]
    found = rows(decode_read(read_answer([(0, ua.DataValue(value)) for value in values]), list(range(10, 17))))
    assert [row[0] for row in found] == list(range(10, 17))
    assert same(
        [row[3] for row in found],
        [math.nan, -math.inf, [[1, 2], [3, 4]], [[1.5], "a"], b"\x00\xff", ["AQ=="], math.inf],
    )


@settings(max_examples=60, deadline=None)
@given(data_values(), st.data())
def test_a_truncated_message_is_an_error(items: list[tuple[int, ua.DataValue]], data: st.DataObject) -> None:
    whole = response(items)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError):
        decode(whole[:end])


@settings(max_examples=200, deadline=None)
@given(data_values(), st.data())
def test_changed_bytes_are_an_error_or_what_asyncua_reads(
    items: list[tuple[int, ua.DataValue]], data: st.DataObject
) -> None:
    broken = bytearray(response(items))
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        published, found = decode(bytes(broken))
    except DecodeError:
        return
    actual = rows(found)
    if published.message is None:
        return
    try:
        answer = struct_from_binary(ua.PublishResponse, Buffer(bytes(broken)))
        changes = answer.Parameters.NotificationMessage.NotificationData
        read = [(i.ClientHandle, i.Value) for change in changes for i in getattr(change, "MonitoredItems", [])]
    except Exception:  # noqa: BLE001 - asyncua raises anything at all; there is nothing to compare then
        return
    wanted = [(handle, value.StatusCode, value.Value) for handle, value in read]
    assert len(actual) == len(wanted)
    for row, (handle, status, variant) in zip(actual, wanted, strict=True):
        assert row[0] == handle
        if row[4] != BAD_DECODING_ERROR:
            assert row[4] == (0 if status is None else status.value)
        if variant is not None and row[1] in range(1, 12) and not row[2]:
            assert same(row[3], variant.Value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_an_error(noise: bytes) -> None:
    for read in (read_publish, read_republish):
        with pytest.raises(DecodeError):
            read(noise)
    if noise[:4] != bytes(4):
        with pytest.raises(DecodeError):
            decode_items(struct.pack("<i", 9) + noise, 0, len(noise) + 4, lambda *_: pytest.fail("not asked for"))


def item(handle: int, mask: int, variant: bytes = b"", tail: bytes = b"") -> bytes:
    return struct.pack("<IB", handle, mask) + variant + tail


def change(*items: bytes, diagnostics: bytes = struct.pack("<i", -1)) -> bytes:
    return struct.pack("<i", len(items)) + b"".join(items) + diagnostics


def read(body: bytes) -> list[tuple[Any, ...]]:
    return rows(decode_items(body, 0, len(body), decode_other))


@pytest.mark.parametrize("count", [1, 3, 100], ids=["one", "few", "run"])
@pytest.mark.parametrize("mask", range(64))
def test_every_mask(mask: int, count: int) -> None:
    """Field order of Part 6, 5.2.2.17: each picoseconds field follows its own timestamp."""
    variant = struct.pack("<Bd", 11, 2.5) if mask & 1 else b""
    tail = b""
    for bit, packed in (
        (0x02, struct.pack("<I", 0x80310000)),
        (0x04, struct.pack("<q", 111)),
        (0x10, struct.pack("<H", 7)),
        (0x08, struct.pack("<q", 222)),
        (0x20, struct.pack("<H", 8)),
    ):
        tail += packed if mask & bit else b""
    found = read(change(*(item(n, mask, variant, tail) for n in range(count))))
    status = 0x80310000 if mask & 2 else 0
    value = (11, False, 2.5) if mask & 1 else (0, False, None)
    assert found == [(n, *value, status, 111 if mask & 4 else 0, 222 if mask & 8 else 0) for n in range(count)]


def test_order_of_one_point_survives_mixed_layouts() -> None:
    body = change(
        *(
            item(1, 0x01 | (0x02 if n % 2 else 0), struct.pack("<Bi", 6, n), struct.pack("<I", 0x480) if n % 2 else b"")
            for n in range(50)
        )
    )
    (items,) = decode_items(body, 0, len(body), decode_other)
    assert items.values.tolist() == list(range(50))
    assert items.status.tolist() == [0x480 * (n % 2) for n in range(50)]


def test_a_run_inside_a_mixture() -> None:
    run = [item(n, 0x01, struct.pack("<Bh", 4, n)) for n in range(500)]
    body = change(
        item(900, 1, struct.pack("<B?", 1, True)),
        *run,
        item(901, 1, struct.pack("<Bi", 12, 1) + b"x"),
        *run,
        item(902, 0),
    )
    found = read(body)
    assert [row[0] for row in found] == [900, *range(500), 901, *range(500), 902]
    assert [row[3] for row in found] == [True, *range(500), "x", *range(500), None]


def test_bytes_that_look_like_another_layout_do_not_mislead() -> None:
    # The values hold the mask and type bytes of their own layout.
    run = [item(0x0B050B05, 0x05, struct.pack("<Bq", 8, 0x0805080508050805), struct.pack("<q", 5)) for _ in range(70)]
    found = read(change(*run, item(1, 0x01, struct.pack("<Bb", 2, -3)), *run))
    assert len(found) == 141
    assert found[70][3] == -3
    assert all(row[3] == 0x0805080508050805 for n, row in enumerate(found) if n != 70)


def test_any_byte_but_zero_is_true() -> None:
    assert read(change(item(1, 1, b"\x01\x07"), item(2, 1, b"\x01\x00")))[0][3] is True


def test_strings_that_are_not_utf8_are_shown_not_lost() -> None:
    raw = "温".encode("gbk")
    assert read(change(item(1, 1, struct.pack("<Bi", 12, len(raw)) + raw)))[0][3] == "\\xce\\xc2"


@pytest.mark.parametrize("type", [12, 15, 0x80 | 11, 0x80 | 12])
def test_null_strings_and_arrays_are_no_values(type: int) -> None:
    assert read(change(item(1, 1, struct.pack("<Bi", type, -1))))[0][1:4] == (0, False, None)


def test_matrices_become_rows() -> None:
    matrix = struct.pack("<Bi6hi2i", 0xC0 | 4, 6, 1, 2, 3, 4, 5, 6, 2, 2, 3)
    assert read(change(item(1, 1, matrix)))[0][3] == [[1, 2, 3], [4, 5, 6]]


def test_wrong_dimensions_spoil_one_value_only() -> None:
    matrix = struct.pack("<Bi2hi2i", 0xC0 | 4, 2, 1, 2, 2, 2, 3)
    found = read(change(item(1, 1, matrix), item(2, 1, struct.pack("<Bh", 4, 9))))
    assert found[0][3:5] == (None, BAD_DECODING_ERROR)
    assert found[1][3:5] == (9, 0)


def test_many_dimensions_spoil_one_value_only() -> None:
    deep = struct.pack("<Bihi", 0xC0 | 4, 1, 7, 1000) + struct.pack("<i", 1) * 1000
    assert read(change(item(1, 1, deep)))[0][3:5] == (None, BAD_DECODING_ERROR)


def test_structures_and_variants_go_through_asyncua() -> None:
    _, found = decode(
        response(
            [
                (1, ua.DataValue(ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject))),
                (2, ua.DataValue(ua.Variant([ua.Variant(1, T.Int32), ua.Variant("a", T.String)], T.Variant))),
                (3, ua.DataValue(ua.Variant(4.0, T.Double))),
            ]
        )
    )
    values = [row[3] for row in rows(found)]
    assert values[0] == {"Low": 1.0, "High": 2.0}
    assert values[1] == [1, "a"]
    assert values[2] == 4.0


@pytest.mark.parametrize("type", [0, 17, 18, 22, 23, 24, 25, 26])
def test_a_wrong_count_costs_no_time(type: int) -> None:
    """Elements of no size would let a count of two thousand million run to its end."""
    body = change(item(1, 1, struct.pack("<Bi", 0x80 | type, 2**31 - 1)))
    with pytest.raises(DecodeError):
        decode_items(body, 0, len(body), decode_other)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        struct.pack("<i", 1),
        struct.pack("<i", 2**31 - 1) + bytes(40),
        change(item(1, 0x40)) + bytes(4),
        change(item(1, 1, struct.pack("<Bi", 12, 2**31 - 1))),
        change(item(1, 1, struct.pack("<Bi", 0x80 | 11, 2**31 - 1))),
        change(item(1, 1, struct.pack("<Bi", 0x80 | 12, 2**31 - 1))),
        change(item(1, 1, struct.pack("<Bd", 0x40 | 11, 1.0))),
        change(item(1, 1, struct.pack("<Bd", 11, 1.0)), diagnostics=b""),
        change(item(1, 1, struct.pack("<Bd", 11, 1.0))) + b"\x00",
        change(item(1, 1, bytes([24]) + bytes([24]) * 5000)),
    ],
    ids=[
        "empty", "no items", "count", "reserved mask", "string length", "array length", "strings length",
        "dimensions on a scalar", "no diagnostics", "too long", "nested",
    ],
)  # fmt: skip
def test_malformed_items(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_items(body, 0, len(body), decode_other)


def test_diagnostics_are_skipped() -> None:
    info = struct.pack("<BiB", 0x41, 5, 0x30) + struct.pack("<i", 2) + b"no" + struct.pack("<I", 1)
    assert len(read(change(item(1, 0), diagnostics=struct.pack("<i", 2) + info + b"\x00"))) == 1


def test_keep_alive_fault_and_status_change() -> None:
    answer = ua.PublishResponse()
    answer.Parameters.NotificationMessage.SequenceNumber = 9
    keep_alive = read_publish(struct_to_binary(answer)).message
    assert keep_alive is not None
    assert (keep_alive.sequence, keep_alive.empty, keep_alive.data_changes) == (9, True, ())

    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80790000))
    assert read_publish(struct_to_binary(fault)) == Published(0x80790000)
    assert read_republish(struct_to_binary(fault)) == Published(0x80790000)

    ended = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000)))
    answer.Parameters.NotificationMessage.NotificationData = [ended]
    message = read_publish(struct_to_binary(answer)).message
    assert message is not None
    assert (message.status_change, message.empty) == (0x800A0000, False)


def test_republish() -> None:
    answer = ua.RepublishResponse()
    answer.NotificationMessage.SequenceNumber = 12
    message = read_republish(struct_to_binary(answer)).message
    assert message is not None
    assert message.sequence == 12


def test_ticks_as_text() -> None:
    assert format_ticks(ticks(TIME)) == "2026-05-06T07:08:09.1234560Z"
    assert format_ticks(0) == "1601-01-01T00:00:00.0000000Z"
    assert format_ticks(1) == "1601-01-01T00:00:00.0000001Z"
