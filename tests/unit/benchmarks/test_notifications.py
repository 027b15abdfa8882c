"""The load server's pre-encoded notifications, read by asyncua's own decoder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_from_binary

from benchmarks.load.notifications import KINDS, MIX, SERVER, SOURCE, VALUE, Part, filetime, numbers, parts

NOW_NS = 1_795_000_000_123_456_700
MASKS = (VALUE, VALUE | SOURCE, VALUE | SERVER, VALUE | SOURCE | SERVER)


def decode(part: Part, tick: int) -> list[Any]:
    data = Buffer(part.encode(tick, filetime(NOW_NS)))
    notification = extensionobject_from_binary(data)
    assert isinstance(notification, ua.DataChangeNotification)
    assert len(data) == 0
    return list(notification.MonitoredItems or [])


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
            kind = MIX[item % len(MIX)] if type == "mix" else type
            expected = numbers(kind, tick, np.array([item]))[0].item()
            assert found.Value.Value.Value == (f"{expected:014}" if kind == "string" else expected)
            assert int(found.Value.Value.VariantType.value) == KINDS[kind].variant
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_NS // 1000)
            assert found.Value.SourceTimestamp == (moment if mask & SOURCE else None)
            assert found.Value.ServerTimestamp == (moment if mask & SERVER else None)


def test_notifications_are_cut_at_the_limit() -> None:
    cut = parts(range(25), range(25), "mix", VALUE | SOURCE, 10)
    assert [part.count for part in cut] == [10, 10, 5]
    assert [item.ClientHandle for part in cut for item in decode(part, 5)] == list(range(25))


@pytest.mark.parametrize("type", ["double", "int32", "uint32", "float"])
def test_every_value_is_distinct(type: str) -> None:
    items = np.arange(100)
    values = np.concatenate([numbers(type, tick, items) for tick in range(150)])
    assert len(np.unique(values)) == len(values)
