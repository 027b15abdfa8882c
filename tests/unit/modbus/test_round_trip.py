"""From registers to what goes into the log: every type x order x sign x scale x sentinel, by an encoder of its own.

The encoder is written here with struct, from the standard; it shares nothing with the decoder. The way is the real one:
planned polls, layouts, and the gateway's normaliser.
"""

from __future__ import annotations

import datetime
import math
import struct
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.decode import Replies
from adapters.modbus.polls import plan_polls
from gateway.contract.status import BAD_SENSOR_FAILURE, GOOD
from gateway.log.records import Labels, StreamRecord
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable

FORMATS = {
    "int8": ">xb", "uint8": ">xB", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q",
    "uint64": ">Q", "float16": ">e", "float32": ">f", "float64": ">d",
}  # fmt: skip
SHORT = ("ABCD", "CDAB", "BADC", "DCBA")
LONG = ("ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA")
SCALES = (None, 0.1, 0.01, 0.001, 0.5, 2.0, 10.0, -0.25, 1 / 3)
OFFSETS = (None, -40.0, 0.05, 273.15)


class Case(NamedTuple):
    keys: dict[str, Any]
    wire: bytes
    value: Any
    """what was encoded; None = a number that stands for no value"""


def arrange(content: bytes, order: str) -> bytes:
    """As it travels: word order and byte order, or letter by letter."""
    if len(order) == 8:
        return bytes(content["ABCDEFGH".index(letter)] for letter in order)
    words = [content[i : i + 2] for i in range(0, len(content), 2)]
    if order in ("CDAB", "DCBA"):
        words = words[::-1]
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


@st.composite
def plain_numbers(draw: st.DrawFn) -> Case:
    type = draw(st.sampled_from(sorted(FORMATS)))
    order = draw(st.sampled_from((*SHORT, *LONG) if type.endswith("64") else SHORT))
    if type.startswith("float"):
        width = int(type[5:])
        most = 1e250 if width == 64 else None  # beyond, a scale leads out of what doubles can hold
        value: Any = draw(
            st.floats(
                None if most is None else -most,
                most,
                width=width,  # type: ignore[arg-type]
                allow_nan=False,
                allow_infinity=False,
            )
        )
    else:
        bits = int(type.lstrip("uint"))
        low = 0 if type[0] == "u" else -(1 << bits - 1)
        value = draw(st.integers(low, low + (1 << bits) - 1))
    keys: dict[str, Any] = {"type": type, "order": order}
    wire = arrange(struct.pack(FORMATS[type], value), order)
    if draw(st.booleans()):
        special = draw(st.sampled_from([value, 0, 1]))
        keys["invalid"] = [special]
        if special == value:
            value = None
    return Case(keys, wire, value)


@st.composite
def signed_by_a_bit(draw: st.DrawFn) -> Case:
    bits = draw(st.sampled_from((16, 32, 64)))
    amount = draw(st.integers(0, (1 << bits - 1) - 1))
    negative = draw(st.booleans())
    order = draw(st.sampled_from(SHORT))
    wire = arrange((amount | negative << bits - 1).to_bytes(bits // 8, "big"), order)
    return Case({"type": f"int{bits}", "order": order, "sign": "magnitude"}, wire, -amount if negative else amount)


@st.composite
def decimal_digits(draw: st.DrawFn) -> Case:
    length, order = draw(st.integers(1, 4)), draw(st.sampled_from(SHORT))
    signed = draw(st.booleans())
    negative = signed and draw(st.booleans())
    amount = draw(st.integers(0, 8 * 10 ** (4 * length - 1) - 1 if signed else 10 ** (4 * length) - 1))
    content = bytearray.fromhex(f"{amount:0{4 * length}d}")
    content[0] |= 0x80 if negative else 0
    keys = {"type": "bcd", "length": length, "order": order, **({"sign": "magnitude"} if signed else {})}
    return Case(keys, arrange(bytes(content), order), -amount if negative else amount)


@st.composite
def moments(draw: st.DrawFn) -> Case:
    order = draw(st.sampled_from(SHORT))
    at = draw(st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2037, 12, 31))).replace(microsecond=0)
    format = draw(st.sampled_from(("unix", "unix-ms", "calendar")))
    seconds = int(at.replace(tzinfo=datetime.UTC).timestamp())
    content = {
        "unix": struct.pack(">I", seconds),
        "unix-ms": struct.pack(">Q", seconds * 1000),
        "calendar": struct.pack(">6H", at.year, at.month, at.day, at.hour, at.minute, at.second),
    }[format]
    keys = {"type": "timestamp", "format": format, "order": order}
    return Case(keys, arrange(content, order), at.isoformat() + "Z")


numbers = st.one_of(plain_numbers(), signed_by_a_bit(), decimal_digits())
scaled = st.tuples(numbers, st.sampled_from(SCALES), st.sampled_from(OFFSETS))
unscaled = st.tuples(moments(), st.none(), st.none())


def through(content: dict[str, Any], memory: bytes) -> dict[str, tuple[Any, int]]:
    """What the log gets of a device whose holding registers are `memory`: point -> (value or None, status)."""
    config = ModbusDeviceConfig.model_validate(content)
    table = PointTable()

    def begin(stream: StreamRecord) -> None:
        table.apply([stream])

    streams = Streams(table, continue_old=True, now=lambda: 1, begin=begin)
    registry = Registry(table, streams, now=lambda: 1, write=lambda records: None)
    labels = Labels("production", 1, "general")
    definitions = [PointDefinition(point, labels, None) for point in config.points]
    points = registry.bind(DeviceDefinition(config.device, None, "modbus", definitions))
    names = {point.index: point.config.point for point in points}
    normaliser = Normaliser(config.device, table, registry)
    found: dict[str, tuple[Any, int]] = {}
    for poll in plan_polls(config, points):
        blocks = [read.block for read in poll.reads]
        payloads = [memory[2 * block.start : 2 * (block.start + block.cells)] for block in blocks]
        n = len(blocks)
        batches = poll.layout.decode(Replies(payloads, [GOOD] * n, [True] * n, [7] * n), 9, 8)
        for record in normaliser.records(batches):
            batch = record.batch
            for i, index in enumerate(batch.points):
                value = batch.values[i] if batch.valid[i] else None
                assert names[int(index)] not in found, "one reading per point and cycle"
                found[names[int(index)]] = (value, int(batch.status[i]))
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.one_of(scaled, unscaled), st.integers(0, 12)), min_size=1, max_size=12))
def test_every_type_order_sign_scale_and_sentinel_comes_out_as_it_went_in(
    drawn: list[tuple[tuple[Case, float | None, float | None], int]],
) -> None:
    points, memory = [], b""
    for i, ((case, scale, offset), gap) in enumerate(drawn):
        memory += b"\xa5" * (2 * gap)
        linear = {key: number for key, number in (("scale", scale), ("offset", offset)) if number is not None}
        points.append({"point": f"p{i}", "address": f"holding {len(memory) // 2}", **case.keys, **linear})
        memory += case.wire
    content = {"device": "d", "adapter": "modbus", "connection": {"url": "tcp://h"}, "points": points}
    found = through(content, memory)
    assert len(found) == len(drawn)
    for i, ((case, scale, offset), _) in enumerate(drawn):
        value, status = found[f"p{i}"]
        if case.value is None:
            assert (value, status) == (None, BAD_SENSOR_FAILURE)
            continue
        assert status == GOOD
        if scale is None and offset is None:
            assert value == case.value
        else:
            exact = Fraction(case.value) * Fraction(repr(scale or 1)) + Fraction(repr(offset or 0))
            if case.keys["type"] in ("float16", "float32"):  # these stay single precision, to the last digit
                with np.errstate(over="ignore"):
                    nearest = np.float32(float(exact))
                    assert value in (nearest, np.nextafter(nearest, -np.inf), np.nextafter(nearest, np.inf))
                continue
            assert math.isclose(float(value), float(exact), rel_tol=1e-12, abs_tol=1e-9)
            digits = math.ceil(math.log2(abs(Fraction(case.value).numerator) + 1))
            if digits < 30 and scale in (0.1, 0.01, 0.001) and offset is None and "int" in case.keys["type"]:
                assert float(value) == float(exact), "to the last digit where both fit a double"
