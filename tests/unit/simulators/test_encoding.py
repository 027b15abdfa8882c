"""The encoder against bytes written out by hand."""

from __future__ import annotations

import pytest

from simulators.plant.encoding import arrange, encode, encode_bcd, encode_text


@pytest.mark.parametrize(
    ("order", "registers"),
    [
        ("ABCD", [0x1122, 0x3344]),
        ("CDAB", [0x3344, 0x1122]),
        ("BADC", [0x2211, 0x4433]),
        ("DCBA", [0x4433, 0x2211]),
    ],
)
def test_four_bytes_in_every_order(order: str, registers: list[int]) -> None:
    assert encode(0x11223344, "uint32", order) == registers


@pytest.mark.parametrize(
    ("order", "registers"),
    [
        ("ABCD", [0x1122, 0x3344, 0x5566, 0x7788]),
        ("CDAB", [0x7788, 0x5566, 0x3344, 0x1122]),
        ("BADC", [0x2211, 0x4433, 0x6655, 0x8877]),
        ("DCBA", [0x8877, 0x6655, 0x4433, 0x2211]),
    ],
)
def test_eight_bytes_in_every_order(order: str, registers: list[int]) -> None:
    assert encode(0x1122334455667788, "uint64", order) == registers


@pytest.mark.parametrize(
    ("value", "type", "registers"),
    [
        (-2, "int8", [0x00FE]),
        (254, "uint8", [0x00FE]),
        (-2, "int16", [0xFFFE]),
        (-2, "int32", [0xFFFF, 0xFFFE]),
        (-2, "int64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]),
        (1.0, "float16", [0x3C00]),
        (20.1, "float32", [0x41A0, 0xCCCD]),
        (1.0, "float64", [0x3FF0, 0, 0, 0]),
    ],
)
def test_types(value: float, type: str, registers: list[int]) -> None:
    assert encode(value, type) == registers


def test_bcd_and_text() -> None:
    assert encode_bcd(12345678, 2) == [0x1234, 0x5678]
    assert encode_bcd(42, 1) == [0x0042]
    assert encode_text("AB1", 2) == [0x4142, 0x3100]
    assert encode_text("AB1", 2, swapped=True) == [0x4241, 0x0031]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(128, "int8")
    with pytest.raises(ValueError, match="does not fit"):
        encode_bcd(10000, 1)
    with pytest.raises(ValueError, match="does not fit"):
        encode_text("ABC", 1)
    with pytest.raises(ValueError, match="unknown type"):
        encode(1, "int24")
    with pytest.raises(ValueError, match="unknown order"):
        arrange(b"ab", "ACBD")
