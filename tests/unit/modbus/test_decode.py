"""Decoding against an independent encoder: every type in every byte order, written with struct alone."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.address import Table
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.planner import Limits, Span, plan
from adapters.modbus.point import ModbusPointConfig
from gateway.contract import Basis, Batch, Point, ValueType
from gateway.contract.status import BAD_DECODING_ERROR, BAD_DEVICE_FAILURE, BAD_OUT_OF_RANGE, GOOD

FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float16": ">e",
    "float32": ">f",
    "float64": ">d",
}
PERMUTATIONS = {"ABCD": (0, 1), "CDAB": (1, 1), "BADC": (0, 0), "DCBA": (1, 0)}
LONG_NAMES = {"ABCDEFGH": "ABCD", "GHEFCDAB": "CDAB", "BADCFEHG": "BADC", "HGFEDCBA": "DCBA"}


def arrange(big_endian: bytes, order: str) -> bytes:
    """Bytes as they travel; 'A' is the most significant. Letters count one by one where the name is long enough."""
    if len(order) == len(big_endian):
        return bytes(big_endian["ABCDEFGH".index(letter)] for letter in order)
    words = [big_endian[i : i + 2] for i in range(0, len(big_endian), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


def orders(type: str) -> list[str]:
    return [*PERMUTATIONS, *LONG_NAMES] if type.endswith("64") else [*PERMUTATIONS]


def numbers(type: str) -> st.SearchStrategy[Any]:
    if type.startswith("float"):
        return st.floats(width=int(type[5:]))  # type: ignore[arg-type]
    bits = int(type.lstrip("uint"))
    return st.integers(0, 2**bits - 1) if type[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def config(address: str, **keys: Any) -> ModbusPointConfig:
    return ModbusPointConfig.model_validate({"point": "p", "address": address, **keys})


def decode(configs: list[ModbusPointConfig], memory: dict[Table, bytes], gap: int = 8) -> list[Batch]:
    """Plan and decode as the adapter does; `memory` holds a table's content from address 0 as it travels."""
    points = [Point(1000 + key, each) for key, each in enumerate(configs)]
    blocks = []
    for table in Table:
        spans = [Span(c.address.offset, c.cells, key) for key, c in enumerate(configs) if c.address.table is table]
        blocks += plan(table, spans, Limits(max_gap=gap))
    payloads = []
    for block in blocks:
        content = memory[block.table]
        if block.table.is_bits:
            bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
            payloads.append(np.packbits(bits[block.start : block.start + block.cells], bitorder="little").tobytes())
        else:
            payloads.append(content[2 * block.start : 2 * (block.start + block.cells)])
    n = len(blocks)
    layout = Layout("d", points, blocks)
    return layout.decode(Replies(payloads, [GOOD] * n, [True] * n, [5 + i for i in range(n)]), 99, 77)


def readings(batches: list[Batch]) -> dict[int, tuple[Any, bool, int]]:
    found: dict[int, tuple[Any, bool, int]] = {}
    for batch in batches:
        assert len(batch.valid) == len(batch.status) == len(batch.values) == len(batch.points)
        for i, index in enumerate(batch.points):
            assert int(index) not in found
            found[int(index) - 1000] = (batch.values[i], bool(batch.valid[i]), int(batch.status[i]))
    return found


def same(a: Any, b: Any) -> bool:
    return bool(a == b or (math.isnan(a) and math.isnan(b)))


@pytest.mark.parametrize("type", FORMATS)
@given(data=st.data())
def test_numbers_round_trip_in_every_order(type: str, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.tuples(numbers(type), st.sampled_from(orders(type)), st.integers(0, 12)), min_size=1))
    configs, memory = [], b""
    for number, order, gap in drawn:
        memory += bytes([0xA5]) * (2 * gap)
        configs.append(config(f"holding {len(memory) // 2}", type=type, order=order))
        memory += arrange(struct.pack(FORMATS[type], number), order)
    found = readings(decode(configs, {Table.HOLDING: memory}))
    for key, (number, _, _) in enumerate(drawn):
        value, valid, status = found[key]
        assert (valid, status) == (True, GOOD)
        assert same(value, number)


@given(st.data())
def test_types_mixed_in_one_device(data: st.DataObject) -> None:
    """Whatever is read together, each point gets its own value, in the batch of its type."""
    kinds = st.sampled_from([*FORMATS])
    configs, memory, expected = [], {Table.HOLDING: b"", Table.INPUT: b""}, []
    for type in data.draw(st.lists(kinds, min_size=1, max_size=60)):
        table = data.draw(st.sampled_from([Table.HOLDING, Table.INPUT]))
        order, number = data.draw(st.sampled_from(orders(type))), data.draw(numbers(type))
        configs.append(config(f"{table.name} {len(memory[table]) // 2}", type=type, order=order))
        memory[table] += arrange(struct.pack(FORMATS[type], number), order)
        expected.append(number)
    batches = decode(configs, memory)
    assert [batch.type for batch in batches] == sorted({c.value_type for c in configs})
    for batch in batches:
        assert batch.values.dtype == batch.type.dtype
        assert set(batch.basis) == {Basis.GATEWAY}
        assert (batch.received_time, batch.monotonic) == (99, 77)
    found = readings(batches)
    assert all(same(found[key][0], number) for key, number in enumerate(expected))


@given(st.lists(st.booleans(), min_size=1, max_size=3000), st.data())
def test_bits(bits: list[bool], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(bits) - 1), min_size=1, max_size=50))
    packed = b"".join(bytes([sum(bit << i for i, bit in enumerate(bits[n : n + 8]))]) for n in range(0, len(bits), 8))
    found = readings(decode([config(f"coil {n}") for n in chosen], {Table.COIL: packed}))
    assert [bool(found[key][0]) for key in range(len(chosen))] == [bits[n] for n in chosen]


@given(st.integers(0, 65535), st.sampled_from(["ABCD", "BADC"]))
def test_bytes_and_bits_of_one_register(register: int, order: str) -> None:
    memory = arrange(struct.pack(">H", register), order)
    configs = [config("holding 0", type=type, order=order) for type in ("int8", "uint8", "bool")]
    configs += [config("holding 0", type="bool", order=order, bit=bit) for bit in range(16)]
    found = readings(decode(configs, {Table.HOLDING: memory}))
    low = register & 0xFF
    assert [found[key][0] for key in range(3)] == [low - 256 if low > 127 else low, low, register != 0]
    assert [bool(found[3 + bit][0]) for bit in range(16)] == [bool(register >> bit & 1) for bit in range(16)]


@pytest.mark.parametrize("order", PERMUTATIONS)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
@given(data=st.data())
def test_bcd(order: str, length: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 10 ** (4 * length) - 1))
    memory = arrange(bytes.fromhex(str(number).zfill(4 * length)), order)
    found = readings(decode([config("input 0", type="bcd", length=length, order=order)], {Table.INPUT: memory}))
    assert found[0] == (number, True, GOOD)


def test_bcd_with_a_nibble_above_nine() -> None:
    configs = [config("holding 0", type="bcd"), config("holding 1", type="bcd")]
    batches = decode(configs, {Table.HOLDING: b"\x12\x3a\x12\x34"})
    found = readings(batches)
    assert found[0][1:] == (False, BAD_OUT_OF_RANGE)
    assert found[1] == (1234, True, GOOD)


@pytest.mark.parametrize(
    ("raw", "length", "order", "text"),
    [
        (b"PUMP 1\0\0", 8, "ABCD", "PUMP 1"),
        (b"PUMP 1  ", 8, "ABCD", "PUMP 1"),
        (b"UPPM1 \0\0", 8, "BADC", "PUMP 1"),
        (b"ABCDEF", 5, "ABCD", "ABCDE"),
        ("1号锅炉".encode(), 10, "ABCD", "1号锅炉"),
        ("1号锅炉".encode("gbk") + b"\0", 8, "ABCD", "1号锅炉"),
        (b"AB\0junk!", 8, "ABCD", "AB"),
        (b"\0\0", 2, "ABCD", ""),
    ],
)
def test_strings(raw: bytes, length: int, order: str, text: str) -> None:
    found = readings(decode([config("holding 0", type="string", length=length, order=order)], {Table.HOLDING: raw}))
    assert found[0] == (text, True, GOOD)


def test_string_in_no_known_encoding_is_bad() -> None:
    found = readings(decode([config("holding 0", type="string", length=2)], {Table.HOLDING: b"\xff\xff"}))
    assert found[0][1:] == (False, BAD_DECODING_ERROR)


def test_bytes() -> None:
    configs = [
        config("holding 0", type="bytes", length=3),
        config("holding 0", type="bytes", length=4, order="BADC"),
    ]
    found = readings(decode(configs, {Table.HOLDING: b"\0\1\2\3"}))
    assert [found[0][0], found[1][0]] == [b"\0\1\2", b"\1\0\3\2"]


@pytest.mark.parametrize("type", FORMATS)
@given(data=st.data())
def test_arrays(type: str, data: st.DataObject) -> None:
    strategy = (
        st.floats(width=int(type[5:]), allow_nan=False, allow_infinity=False) if type[0] == "f" else numbers(type)
    )  # type: ignore[arg-type]
    drawn = data.draw(st.lists(strategy, min_size=1, max_size=20))
    order = data.draw(st.sampled_from(orders(type)))
    memory = b"".join(arrange(struct.pack(FORMATS[type], number), order) for number in drawn)
    (batch,) = decode([config("holding 0", type=type, order=order, count=len(drawn))], {Table.HOLDING: memory})
    assert batch.type is ValueType.JSON
    value = batch.values[0]
    assert struct.pack(f">{len(drawn)}{FORMATS[type][1]}", *value) == struct.pack(
        f">{len(drawn)}{FORMATS[type][1]}", *drawn
    )


def test_arrays_of_other_things() -> None:
    configs = [
        config("coil 1", count=3),
        config("holding 0", type="bool", count=3),
        config("holding 0", type="bool", count=3, bit=1),
        config("holding 0", type="int8", count=3),
        config("holding 3", type="float32", count=4),
    ]
    floats = struct.pack(">4f", 20.1, math.nan, math.inf, -math.inf)
    memory = {Table.COIL: b"\x0a", Table.HOLDING: struct.pack(">3H", 0, 2, 0xFFFD) + floats}
    found = readings(decode(configs, memory))
    assert [found[key][0] for key in range(5)] == [
        [True, False, True],
        [False, True, True],
        [False, True, False],
        [0, 2, -3],
        [20.1, "NaN", "Infinity", "-Infinity"],
    ]


def test_failed_and_untried_blocks() -> None:
    """A failed block makes its points Bad without a value, an untried one says nothing; the others are as they were."""
    configs = [config(f"holding {n}", type="uint16") for n in (0, 100, 200, 201)]
    configs += [config("holding 100", type="string", length=2), config("coil 0")]
    points = [Point(key, each) for key, each in enumerate(configs)]
    registers = [Span(c.address.offset, c.cells, key) for key, c in enumerate(configs[:5])]
    blocks = [*plan(Table.HOLDING, registers, Limits()), *plan(Table.COIL, [Span(0, 1, 5)], Limits())]
    assert len(blocks) == 4
    replies = Replies(
        [b"\0\7", None, b"\0\1\0\2", None],
        [GOOD, BAD_DEVICE_FAILURE, GOOD, GOOD],
        [True, True, True, False],
        [1, 2, 3, 0],
    )
    batches = Layout("d", points, blocks).decode(replies, 9, 9)
    assert [batch.type for batch in batches] == [ValueType.UINT64, ValueType.STRING]
    uints, strings = batches
    assert uints.points.tolist() == [0, 1, 2, 3]
    assert uints.valid.tolist() == [True, False, True, True]
    assert uints.status.tolist() == [GOOD, BAD_DEVICE_FAILURE, GOOD, GOOD]
    assert uints.source_time.tolist() == [1, 2, 3, 3]
    assert uints.values[uints.valid].tolist() == [7, 1, 2]
    assert (strings.points.tolist(), strings.valid.tolist(), strings.status.tolist()) == (
        [4],
        [False],
        [BAD_DEVICE_FAILURE],
    )
