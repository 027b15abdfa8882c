"""The byte-order assistant: whatever a device holds, the engineer who knows the value finds its type and order."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.modbus.address import Address, Table
from adapters.modbus.tools.assistant import meanings
from gateway.contract.registers import Hint
from tests.unit.modbus.test_decode import FORMATS, PERMUTATIONS, arrange, numbers

HOLDING = Address(Table.HOLDING, 7)
FOUND = tuple(type for type in FORMATS if type != "float16")


@pytest.mark.parametrize("type", FOUND)
@given(data=st.data())
def test_the_true_meaning_is_among_those_that_fit(type: str, data: st.DataObject) -> None:
    value = data.draw(numbers(type))
    assume(math.isfinite(value) and (value == 0 or abs(value) > 1e-6))
    order = data.draw(st.sampled_from(sorted(PERMUTATIONS)))
    if struct.calcsize(FORMATS[type]) == 2:
        order = data.draw(st.sampled_from(["ABCD", "BADC"]))
    raw = arrange(struct.pack(FORMATS[type], value), order) + data.draw(st.binary(min_size=6, max_size=6))
    found = meanings(HOLDING, raw[:8], Hint(expected=value))
    fits = {(one.type, one.order): one for one in found if one.rank is not None}
    assert (type, order) in fits
    assert fits[type, order].rank == pytest.approx(0, abs=1e-6)
    assert fits[type, order].scale == 1
    assert [one.rank is not None for one in found] == sorted((one.rank is not None for one in found), reverse=True)


def test_scaled_integers_come_with_their_scale() -> None:
    first = meanings(HOLDING, struct.pack(">hHHH", 201, 9, 9, 9), Hint(expected=20.0))[0]
    assert (first.type, first.order, first.value, first.scale) == ("int16", "ABCD", 201, 0.1)
    assert first.keys == {"address": "holding 7", "type": "int16", "scale": 0.1}


def test_a_range_puts_the_plausible_first() -> None:
    raw = arrange(struct.pack(">f", 81.53), "CDAB") + b"\0\0\0\0"
    found = [one for one in meanings(HOLDING, raw, Hint(low=0.5, high=200)) if one.rank is not None]
    assert ("float32", "CDAB") in {(one.type, one.order) for one in found}
    assert all(0.5 <= one.value * one.scale <= 200 for one in found)


def test_without_a_hint_nothing_is_claimed() -> None:
    assert all(one.rank is None for one in meanings(HOLDING, bytes(8), Hint()))


def test_narrow_answers_have_narrow_meanings() -> None:
    assert {one.type for one in meanings(HOLDING, b"\0\7", Hint())} == {
        "int16",
        "uint16",
        "int16 +sign bit",
        "float16",
        "bcd",
    }
    (bit,) = meanings(Address(Table.COIL, 3), b"\1", Hint())
    assert (bit.type, bit.value) == ("bool", True)
