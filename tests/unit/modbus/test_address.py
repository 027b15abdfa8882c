"""Addresses: what is understood, and what each refusal tells the engineer to write."""

from __future__ import annotations

import pytest

from adapters.modbus.address import Address, Table, parse_address


@pytest.mark.parametrize(
    ("text", "table", "offset"),
    [
        ("holding 0", Table.HOLDING, 0),
        ("Holding  65535", Table.HOLDING, 65535),
        ("input 7", Table.INPUT, 7),
        ("coil 12", Table.COIL, 12),
        (" discrete 3 ", Table.DISCRETE, 3),
        ("modicon 40001", Table.HOLDING, 0),
        ("modicon 400001", Table.HOLDING, 0),
        ("modicon 465536", Table.HOLDING, 65535),
        ("modicon 49999", Table.HOLDING, 9998),
        ("modicon 30010", Table.INPUT, 9),
        ("modicon 10001", Table.DISCRETE, 0),
        ("modicon 00001", Table.COIL, 0),
        ("modicon 000100", Table.COIL, 99),
    ],
)
def test_understood(text: str, table: Table, offset: int) -> None:
    assert parse_address(text) == Address(table, offset)


@pytest.mark.parametrize("given", [40001, "40001"])
def test_bare_modicon_number_gets_both_readings(given: int | str) -> None:
    with pytest.raises(ValueError, match="two ways") as error:
        parse_address(given)
    message = str(error.value)
    assert '"modicon 40001"' in message
    assert '"holding 0"' in message
    assert '"holding 40001"' in message


def test_bare_small_number_gets_both_readings() -> None:
    with pytest.raises(ValueError, match="two ways") as error:
        parse_address(100)
    assert '"holding 100"' in str(error.value)
    assert '"holding 99"' in str(error.value)


def test_bare_zero() -> None:
    with pytest.raises(ValueError, match='write "holding 0"'):
        parse_address(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("holding 65536", "addresses go from 0 to 65535"),
        ("register 5", 'expected "holding 0"'),
        ("holding", 'expected "holding 0"'),
        ("holding -1", 'expected "holding 0"'),
        (None, 'expected "holding 0"'),
        (True, 'expected "holding 0"'),
        ("modicon 20001", "first being 0"),
        ("modicon 4001", "five or six digits"),
        ("modicon 1", "five or six digits"),
        ("modicon 40000", "count from 1"),
        ("modicon 465537", "count from 1 to 65536"),
    ],
)
def test_refused(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(text)
