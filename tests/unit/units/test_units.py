"""Units: what engineers write is found, and conversions are exact where decimals are."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.contract import PointConfig
from gateway.units.conversion import ConversionError, conversion, converted
from gateway.units.table import all_spellings, find, nearest_spelling

WRITTEN = """
℃ CEL Cel|°C CEL Cel|摄氏度 CEL Cel|℉ FAH [degF]|K KEL K|m³/h MQH m3/h|m3/h MQH m3/h|立方米/小时 MQH m3/h
Nm³/h Q40 m3/h|Nm3/h Q40 m3/h|t/h E18 t/h|吨/小时 E18 t/h|kPa KPA kPa|kPa(G) KPA kPa|MPa(A) MPA MPa|MPa MPA MPa
bar BAR bar|mbar MBR mbar|kgf/cm² E42 kgf/cm2|度 KWH kW.h|kWh KWH kW.h|kW·h KWH kW.h|kvar KVR kV.A{reactive}
% P1 %|％ P1 %|mm/s C16 mm/s|m/s MTS m/s|rpm RPM {rev}/min|r/min RPM {rev}/min|转/分 RPM {rev}/min|Hz HTZ Hz
kW KWT kW|MW MAW MW|kVA KVA kV.A|V VLT V|kV KVT kV|mV 2Z mV|A AMP A|mA 4K mA|Ω OHM Ohm|MΩ B75 MOhm|mm MMT mm
µm 4H um|μm 4H um|m MTR m|kg/h E93 kg/h|L/min L2 L/min|L/s G51 L/s|m³ MTQ m3|Nm³ NM3 m3|t TNE t|kg KGM kg
GJ GV GJ|MJ 3B MJ|kcal E14 kcal_IT|ppm 59 [ppm]|pH Q30 [pH]|μS/cm G42 uS/cm|mg/m³ GP mg/m3|mg/L M1 mg/L
kg/m³ KMQ kg/m3|g/cm³ 23 g/cm3|N·m NU N.m|kN B47 kN|s SEC s|ms C26 ms|min MIN min|h HUR h|° DD deg|dB 2N dB
lx LUX lx|mPa·s C24 mPa.s|cSt C17 mm2/s|psi PS [psi]|千瓦时 KWH kW.h|兆帕 MPA MPa
"""


@pytest.mark.parametrize("case", [case for line in WRITTEN.strip().splitlines() for case in line.split("|")])
def test_what_engineers_write_has_its_codes(case: str) -> None:
    text, rec20, ucum = case.split()
    unit = find(text)
    assert unit is not None
    assert (unit.rec20, unit.ucum) == (rec20, ucum)
    assert find(f" {text} ") == unit


def test_the_table_is_large_and_says_no_spelling_twice() -> None:
    spellings = all_spellings()
    assert len(spellings) >= 120
    assert len(set(spellings)) == len(spellings)


def test_capitals_make_another_unit() -> None:
    assert find("MPA") is None
    assert find("kPa") != find("MPa")


def test_the_nearest_spelling() -> None:
    assert nearest_spelling("Nm3/hh") == "Nm3/h"
    assert nearest_spelling("kPaG)") in ("kPaG", "kPa(G)")
    assert nearest_spelling("猫") is None


@pytest.mark.parametrize(
    ("unit", "convert_to", "value", "expected"),
    [
        ("MPa", "kPa", "1.2", "1200"),
        ("bar", "MPa", "10", "1"),
        ("kgf/cm²", "kPa", "1", "98.0665"),
        ("psi", "kPa", "1", "8896443230521/1290320000000"),
        ("℉", "℃", "212", "100"),
        ("℃", "K", "0.01", "273.16"),
        ("m3/h", "L/s", "3.6", "1"),
        ("L/min", "m³/h", "1000", "60"),
        ("t/h", "kg/s", "3.6", "1"),
        ("度", "MJ", "1", "3.6"),
        ("GJ", "kWh", "3.6", "1000"),
        ("kcal", "kJ", "1", "4.1868"),
        ("rps", "rpm", "50", "3000"),
        ("mmH2O", "Pa", "1", "9.80665"),
        ("kPa(G)", "MPa(G)", "500", "0.5"),
        ("ppm", "%", "10000", "1"),
        ("μS/cm", "mS/cm", "1500", "1.5"),
        ("km/h", "m/s", "36", "10"),
    ],
)
def test_conversions_are_exact(unit: str, convert_to: str, value: str, expected: str) -> None:
    factor, offset = conversion(unit, convert_to)
    assert Fraction(value) * factor + offset == Fraction(expected)


def test_every_unit_converts_there_and_back_within_its_quantity() -> None:
    units = {text: find(text) for text in all_spellings()}
    for one, known in units.items():
        for other, like in units.items():
            if known is not None and like is not None and known.quantity == like.quantity:
                there, back = conversion(one, other), conversion(other, one)
                assert (there.factor * back.factor, there.offset * back.factor + back.offset) == (1, 0)


@pytest.mark.parametrize(
    ("unit", "convert_to", "message"),
    [
        ("kPa(G)", "kPa(A)", "the pressure of the air is not known"),
        ("kPa(G)", "kPa", "gauge or absolute is not said"),
        ("Nm³/h", "m³/h", "pressure and temperature of the gas are not known"),
        ("m³/h", "t/h", "the density is not known"),
        ("kW", "kWh", "power is not energy"),
        ("kW", "kvar", "power is not reactive power"),
        ("smoots", "m", 'the unit "smoots" is not known'),
        ("kPa", "kpascal", 'the unit "kpascal" is not known'),
    ],
)
def test_what_cannot_be_converted_is_said(unit: str, convert_to: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message.replace("(", r"\(")):
        conversion(unit, convert_to)


def test_a_point_in_another_unit_has_one_scale_and_offset() -> None:
    config = PointConfig(point="p", unit="MPa", scale=0.001, offset=-0.1, convert_to="kPa")
    found = converted(config)
    assert (found.unit, found.scale, found.offset) == ("kPa", None, -100.0)
    plain = PointConfig(point="p", unit="MPa")
    assert converted(plain) is plain
    with pytest.raises(ConversionError, match="needs the unit of what is read"):
        converted(PointConfig(point="p", convert_to="kPa"))
