"""Finding items in mixtures: windows, long steps, texts that are null, long or not ASCII."""

from __future__ import annotations

import base64
import random
import struct
from typing import Any

import pytest

from adapters.opcua.decoding import walk
from adapters.opcua.decoding.decode import Items, decode_items
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.variant import DecodeError

NO_DIAGNOSTICS = struct.pack("<i", -1)
TEXTS = (12, 15, 16)
ARRAY = 0x80
STRUCTURE = 22
ELEMENTS: dict[int, tuple[str, Any]] = {1: ("?", True), 4: ("h", -3), 10: ("f", 0.5), 11: ("d", 0.1)}
"""struct format and a value of some types of array elements"""


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


def array(random: random.Random, type: int) -> tuple[bytes, Any]:
    count = random.choice((-1, 0, 3, 3, 1000))
    if count < 0:
        return struct.pack("<i", -1), None
    format, element = ELEMENTS[type]
    return struct.pack(f"<i{count}{format}", count, *[element] * count), [element] * count


def structure(random: random.Random) -> tuple[bytes, Any]:
    """One that nobody knows: its bytes are shown."""
    id, shown = random.choice(
        (
            (b"\x00\xfe", "i=254"),
            (b"\x01\x02\x89\x13", "ns=2;i=5001"),
            (b"\x02" + struct.pack("<HI", 3, 70_000), "ns=3;i=70000"),
            (b"\x03" + struct.pack("<Hi", 4, 5) + b"Pumpe", "ns=4;s=Pumpe"),
            (b"\x04" + struct.pack("<H", 5) + bytes(16), "ns=5;g=00000000-0000-0000-0000-000000000000"),
        )
    )
    body = bytes(random.choices(b"\0\1\5\x0b", k=random.choice((0, 5, 300))))
    kind = random.randrange(8)
    if kind == 0:
        return id + b"\0", {"type": shown}
    if kind == 1:
        return id + b"\2" + struct.pack("<i", 3) + b"<a>", {"type": shown, "xml": "<a>"}
    encoded = id + b"\1" + struct.pack("<i", len(body)) + body
    return encoded, {"type": shown, "body": base64.b64encode(body).decode()}


def item(random: random.Random, handle: int, type: int) -> tuple[bytes, tuple[int, int, Any, int, int]]:
    """One item's bytes, and (handle, type, value, status, source)."""
    encoded: bytes
    value: Any
    if type in TEXTS:
        encoded, value = text(random, type)
    elif type == 4:
        value = random.randrange(1 << 15)
        encoded = struct.pack("<h", value)
    elif type == STRUCTURE:
        encoded, value = structure(random)
    elif type & ARRAY:
        encoded, value = array(random, type & ~ARRAY)
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


@pytest.mark.parametrize(
    "types",
    [
        (12,), (15, 16), (4, 11), (4, 11, 12), (22,), (0x81, 0x84, 0x8A, 0x8B),
        (4, 11, 12, 15, 22, 0x8B), (*[4, 11, 12] * 20, 22, 0x8A),
    ],
    ids=lambda types: f"{sorted(set(types))}",
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2, 30, 3000])
def test_mixtures(types: tuple[int, ...], count: int) -> None:
    source = random.Random(count)
    parts: list[bytes] = []
    wanted = []
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
    parts = [item(source, n, source.choice((4, 11, 12, 22)))[0] for n in range(40)]
    whole = b"".join(parts)
    for end in range(len(whole)):
        body = struct.pack("<i", len(parts)) + whole[:end]
        with pytest.raises(DecodeError):
            decode_items(body + b"\xff" * 8, 0, len(body), decode_other)


def test_an_end_far_into_a_message_is_an_error() -> None:
    source = random.Random(3)
    parts = [item(source, n, source.choice((4, 11, 12, 22, 0x8A)))[0] for n in range(3000)]
    whole = b"".join(parts)
    for end in source.sample(range(len(whole)), 15):
        body = struct.pack("<i", len(parts)) + whole[:end]
        for behind in (b"", b"\xff" * 20):
            with pytest.raises(DecodeError):
                decode_items(body + behind, 0, len(body), decode_other)


@pytest.mark.parametrize("filler", [b"\0", b"\1\x0b", b"\5\x0c\0\0"], ids=["nothing", "doubles", "texts"])
def test_bytes_that_look_like_items_do_not_mislead(filler: bytes) -> None:
    """Texts full of what items begin with, between items of other times than the first one."""
    parts, wanted = [], []
    for n in range(600):
        raw = filler * (n % 40)
        stamp = (b"", struct.pack("<q", 7 + n))[n % 3 == 1]
        parts.append(struct.pack("<IBBi", n, 5 if stamp else 1, 15, len(raw)) + raw + stamp)
        wanted.append((n, 15, raw, 0, 7 + n if stamp else 0))
    body = struct.pack("<i", len(parts)) + b"".join(parts) + NO_DIAGNOSTICS
    assert rows(decode_items(body, 0, len(body), decode_other)) == wanted


@pytest.mark.parametrize("seed", range(40))
def test_chains_are_what_a_walk_item_by_item_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bytes are wrong: the same items, or an error both times."""
    source = random.Random(seed)
    parts = [item(source, n, source.choice((4, 4, 11, 11, 12, 22, 0x8A)))[0] for n in range(400)]
    body = bytearray(struct.pack("<i", len(parts)) + b"".join(parts) + NO_DIAGNOSTICS)
    for _ in range(seed % 4):
        body[source.randrange(4, len(body))] = source.choice((0, 1, 5, 11, 12, 22, 255))

    def found() -> list[tuple[int, int, Any, int, int]] | None:
        try:
            return rows(decode_items(bytes(body), 0, len(body), decode_other))
        except DecodeError:
            return None

    by_chains = found()
    monkeypatch.setattr(walk, "_SMALLEST_WINDOW", 1 << 40)
    assert repr(found()) == repr(by_chains)
    assert by_chains is not None or seed % 4


@pytest.mark.parametrize("before", [1, 364, 600])
@pytest.mark.parametrize("count", [1, 40, 100])
def test_items_without_a_value_at_the_very_end_of_a_message_are_an_error(count: int, before: int) -> None:
    """Nothing follows them, not even the diagnostics that would have to."""
    first = [struct.pack("<IBBd", 1, 1, 11, 0.5) if n % 2 else struct.pack("<IBBh", 1, 1, 4, 5) for n in range(before)]
    body = struct.pack("<i", before + count) + b"".join(first) + struct.pack("<IB", 2, 0) * count
    with pytest.raises(DecodeError):
        decode_items(body, 0, len(body), decode_other)
