"""Finding items in mixtures: windows, long steps, texts that are null, long or not ASCII."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from adapters.opcua.decoding.decode import Items, decode_items
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.variant import DecodeError

NO_DIAGNOSTICS = struct.pack("<i", -1)
TEXTS = (12, 15, 16)


def text(random: random.Random, type: int) -> tuple[bytes, Any]:
    raw = bytes(random.choices(b"abc-09", k=random.choice((0, 1, 14, 219, 220, 221, 222, 400))))
    kind = random.randrange(8)
    if kind == 0:
        return struct.pack("<i", -1), None
    if kind == 1:
        raw = "3 号锅炉 ü".encode()
    elif kind == 2:
        raw = "温".encode("gbk")
    shown: Any = raw if type == 15 else raw.decode("utf-8", "backslashreplace")
    return struct.pack("<i", len(raw)) + raw, shown


def item(random: random.Random, handle: int, type: int) -> tuple[bytes, tuple[int, int, Any, int, int]]:
    """One item's bytes, and (handle, type, value, status, source)."""
    encoded: bytes
    value: Any
    if type in TEXTS:
        encoded, value = text(random, type)
    elif type == 4:
        value = random.randrange(1 << 15)
        encoded = struct.pack("<h", value)
    elif type == 0x8B:  # an array: not stepped over
        value = [1.0] * random.choice((0, 3, 1000))
        encoded = struct.pack(f"<i{len(value)}d", len(value), *value)
    else:
        value = random.random()
        encoded = struct.pack("<d", value)
    status, source = random.choice((None, 0x480)), random.choice((None, 1 << 60))
    mask = 1 | (0 if status is None else 2) | (0 if source is None else 4)
    tail = (b"" if status is None else struct.pack("<I", status)) + (
        b"" if source is None else struct.pack("<q", source)
    )
    data = struct.pack("<IBB", handle, mask, type) + encoded + tail
    return data, (handle, 0 if value is None else type & 0x3F, value, status or 0, source or 0)


def rows(found: list[Items]) -> list[tuple[int, int, Any, int, int]]:
    found_rows = []
    for items in found:
        values = [None] * len(items) if items.type == 0 else items.values.tolist()
        for row in range(len(items)):
            fields = (int(items.handles[row]), items.type, values[row], int(items.status[row]), int(items.source[row]))
            found_rows.append((int(items.order[row]), fields))
    found_rows.sort(key=lambda row: row[0])
    assert [order for order, _ in found_rows] == list(range(len(found_rows)))
    return [fields for _, fields in found_rows]


@pytest.mark.parametrize("types", [(12,), (15, 16), (4, 11), (4, 11, 12), (4, 11, 12, 15, 0x8B)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 30, 3000])
def test_mixtures(types: tuple[int, ...], count: int) -> None:
    source = random.Random(count)
    parts, wanted = [], []
    while len(parts) < count:
        type = source.choice(types)
        for _ in range(source.choice((1, 1, 1, 1, 200))):
            data, row = item(source, len(parts), type)
            parts.append(data)
            wanted.append(row)
    body = struct.pack("<i", len(parts)) + b"".join(parts) + NO_DIAGNOSTICS
    before, after = bytes(3), b"\xff" * source.choice((0, 1, 9))  # a notification lies inside a message
    data = before + body + after
    assert rows(decode_items(data, 3, 3 + len(body), decode_other)) == wanted


def test_an_end_within_any_item_is_an_error() -> None:
    source = random.Random(1)
    parts = [item(source, n, source.choice((4, 11, 12)))[0] for n in range(40)]
    whole = b"".join(parts)
    for end in range(len(whole)):
        body = struct.pack("<i", len(parts)) + whole[:end]
        with pytest.raises(DecodeError):
            decode_items(body + b"\xff" * 8, 0, len(body), decode_other)
