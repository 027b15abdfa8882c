"""The load server's pre-encoded notifications, read by asyncua's own decoder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_from_binary

from benchmarks.load import kinds
from benchmarks.load.kinds import KINDS, MIX, PLANT, Kind, kind_of, numbers
from benchmarks.load.notifications import SERVER, SOURCE, VALUE, Part, filetime, parts

NOW_NS = 1_795_000_000_123_456_700
MASKS = (VALUE, VALUE | SOURCE, VALUE | SERVER, VALUE | SOURCE | SERVER)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode(part: Part, tick: int, time: int = filetime(NOW_NS)) -> list[Any]:
    data = Buffer(part.encode(tick, time))
    notification = extensionobject_from_binary(data)
    assert isinstance(notification, ua.DataChangeNotification)
    assert len(data) == 0
    return list(notification.MonitoredItems or [])


def expected(kind: Kind, tick: int, item: int) -> Any:
    """As asyncua shows it."""
    if kind.element:
        return [expected(KINDS[kind.element], tick, (item + place) % kinds.SPAN) for place in range(kind.length)]
    if kind.name == "structure":
        return (5001, b"".join(field(KINDS[name], tick, item) for _, name in kinds.FIELDS))
    value = numbers(kind.name, tick, np.array([item]))[0].item()
    return f"{value:014}" if kind.name == "string" else value


def field(kind: Kind, tick: int, item: int) -> bytes:
    value = expected(kind, tick, item)
    if kind.name == "string":
        return bytes(len(value).to_bytes(4, "little") + value.encode())
    return bytes(np.array(value, numbers(kind.name, tick, np.array([item])).dtype).tobytes())


def shown(value: Any) -> Any:
    """A structure that asyncua does not know by the number of its encoding, and its bytes."""
    return (value.TypeId.Identifier, value.Body) if isinstance(value, ua.ExtensionObject) else value


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("type", [*KINDS, "mix"])
def test_values_and_times_are_the_ones_meant(type: str, mask: int) -> None:
    items = [40, 3, 7, 99_999, 11, 0, 25, 18, 19]
    handles = [1000 + k for k in range(len(items))]
    part = Part(handles, items, type, mask)
    for tick in (1, 163, 70_000):
        decoded = decode(part, tick)
        assert [item.ClientHandle for item in decoded] == handles
        for item, found in zip(items, decoded, strict=True):
            kind = KINDS[MIX[item % len(MIX)] if type == "mix" else type]
            assert shown(found.Value.Value.Value) == expected(kind, tick, item)
            assert int(found.Value.Value.VariantType.value) == kind.built_in
            moment = EPOCH + timedelta(microseconds=NOW_NS // 1000)
            assert found.Value.SourceTimestamp == (moment if mask & SOURCE else None)
            assert found.Value.ServerTimestamp == (moment if mask & SERVER else None)


@pytest.mark.parametrize("mask", MASKS)
def test_a_plant_has_every_kind_and_some_that_are_not_good(mask: int) -> None:
    items = np.random.default_rng(5).permutation(10_000)[:700].tolist()
    seen: set[str] = set()
    for tick in (20, 23):
        part = Part(items, items, "plant", mask, tick)
        for round in (0, 3):
            at, time = kinds.moment("plant", tick + round * kinds.ORDERS, filetime(NOW_NS))
            decoded = decode(part, at, time)
            assert [item.ClientHandle for item in decoded] == items
            for item, found, state in zip(items, decoded, kinds.states(at, np.array(items)).tolist(), strict=True):
                kind = kind_of(item, "plant")
                status = found.Value.StatusCode
                assert (0 if status is None else status.value) == kinds.STATUSES[state]
                if state == kinds.WITHOUT_VALUE:
                    assert found.Value.Value.VariantType == ua.VariantType.Null
                    continue
                seen |= {kind.name, str(state)}
                assert shown(found.Value.Value.Value) == expected(kind, at, item)
                stamp = found.Value.SourceTimestamp or found.Value.ServerTimestamp
                assert mask == VALUE or abs(stamp - EPOCH - timedelta(seconds=NOW_NS / 1e9)) < timedelta(seconds=0.002)
    assert seen == {*PLANT, "0", "1", "2"}
    assert len(PLANT) == 100


def test_a_plants_time_carries_the_tick() -> None:
    for tick in (0, 1, 9_599, 9_600, 123_456):
        shown, time = kinds.moment("plant", tick, filetime(NOW_NS))
        assert shown == kinds.ticks_of(np.array([(time - filetime(0)) * 100]))[0] == tick % kinds.TICKS
        assert abs(time - filetime(NOW_NS)) < 10_000
    assert kinds.moment("double", 123_456, 77) == (123_456, 77)


def test_notifications_are_cut_at_the_limit() -> None:
    for type in ("double", "plant"):
        cut = parts(range(25), range(25), type, VALUE | SOURCE, 10, 5)
        assert [part.count for part in cut] == [10, 10, 5]
        assert [item.ClientHandle for part in cut for item in decode(part, 5)] == list(range(25))


@pytest.mark.parametrize("type", ["double", "int32", "uint32", "float", "int64", "uint64", "string"])
def test_every_value_is_distinct(type: str) -> None:
    items = np.arange(100)
    values = np.concatenate([numbers(type, tick, items) for tick in range(150)])
    assert len(np.unique(values)) == len(values)


@pytest.mark.parametrize("type", ["sbyte", "int16", "int64", "uint64"])
def test_wide_ranges_are_used_to_their_ends(type: str) -> None:
    values = numbers(type, 7, np.arange(100_000))
    limits = np.iinfo(values.dtype)
    assert values.min() <= limits.min * 0.9 or type == "uint64"
    assert values.max() >= limits.max * 0.9
