"""Addresses as point tables write them: 40001, 4x0001, HR100, "100" with a function code, KEPServerEX's suffixes.

A number that could be read in two ways is refused, as in a device file (`address`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from adapters.modbus.address import CELLS, Address, Table, parse_address
from adapters.modbus.point import ModbusPointConfig
from gateway.contract.tables import CellRefused

_CODES: Final = {
    1: Table.COIL, 5: Table.COIL, 15: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 6: Table.HOLDING,
    16: Table.HOLDING, 4: Table.INPUT,
}  # fmt: skip
"""function codes, those that write named beside those that read (Application Protocol V1.1b3, 6)"""
_AREAS: Final = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}
_WORDS: Final = (
    (re.compile("保持|HOLDING|^HR?$"), Table.HOLDING),
    (re.compile("离散|输入状态|DISCRETE|^DI$"), Table.DISCRETE),
    (re.compile("线圈|COIL|^CO$"), Table.COIL),
    (re.compile("输入寄存器|INPUT|^IR$"), Table.INPUT),
)
_CODE = re.compile(r"(?<![0-9A-Z])(?:FC|F)?(0X)?0*([0-9]{1,2})(H)?(?![0-9A-Z])")
_SUFFIXES = re.compile(
    r"(?P<place>.*?[0-9A-F]H?)"
    r"(?:[-~](?P<last>[0-9]+))?"
    r"(?:[.:](?P<number>[0-9]{1,3})(?P<text>[HL])?)?"
    r"(?:\s*\[(?P<rows>[0-9]+)\])?(?:\s*\[(?P<columns>[0-9]+)\])?"
)
_REFERENCE = re.compile(r"([0134])X[-:]?([0-9]{1,6})")
_NAMED = re.compile(r"([A-Z\u4e00-\u9fff]+(?: REGISTERS?)?)\s*([0-9]+)")
_HEXADECIMAL = re.compile(r"(?:0X([0-9A-F]+)|([0-9][0-9A-F]*)H)")
_MODICON = re.compile(r"[0134][0-9]{4,5}")
_IN_THE_PLC = re.compile(r"%?[A-Z]{1,3}[0-9]+(\.[A-Z]*[0-9]+)*")


def table_keys(cells: Mapping[str, str], base: int) -> dict[str, Any]:
    """See `gateway.contract.tables.HasTables`."""
    text = " ".join(cells["address"].upper().split())
    found = _SUFFIXES.fullmatch(text)
    if found is None:
        raise CellRefused("address", f"{cells['address']!r} is no Modbus address", _EXAMPLES)
    table = _function(cells.get("function", ""))
    address = _address(found["place"], table, base)
    keys: dict[str, Any] = {"address": address}
    keys |= {key: cells[key] for key in ("type", "order") if cells.get(key)}
    if found["text"]:
        # KEPServerEX, Modbus drivers, string support: length in bytes, H = high byte first, L = low byte first.
        keys |= {"type": "string", "length": int(found["number"])}
        keys |= {"order": "BADC"} if found["text"] == "L" else {}
    elif found["number"]:
        keys["bit"] = int(found["number"])
        keys.setdefault("type", "bool")
    if found["rows"]:
        keys["count"] = int(found["rows"]) * int(found["columns"] or 1)
    if keys.get("type") == "bool" and "count" not in keys:
        keys.pop("order", None)  # a column of orders is filled down over the switches too
    if found["last"]:
        _check_last(cells["address"], found["place"], int(found["last"]), keys)
    return keys


_EXAMPLES: Final = "write 40001, 4x0001, holding 0, or a number beside a column with the function code"


def _function(text: str) -> Table | None:
    """The table that a function-code cell names; None for an empty one. Raises CellRefused."""
    text = text.upper().strip()
    if not text:
        return None
    if area := re.fullmatch(r"([0134])X(?:区)?", text):
        return _AREAS[area[1]]
    tables = {_CODES.get(int(digits, 16 if prefix or suffix else 10)) for prefix, digits, suffix in _CODE.findall(text)}
    if not tables:
        tables = {table for pattern, table in _WORDS if pattern.search(text)}
    if len(tables) == 1 and (table := tables.pop()):
        return table
    raise CellRefused(
        "function",
        f"expected one function code that reads: 01 (coil), 02 (discrete input), 03 (holding register) or 04 (input "
        f"register), found {text!r}",
        "correct the function code",
    )


def _address(text: str, table: Table | None, base: int) -> str:
    """An address as the device file writes it. Raises CellRefused."""
    if text.startswith(("HOLDING ", "INPUT ", "COIL ", "DISCRETE ", "MODICON ")):
        return _parsed(text.lower())
    # 0x0064 is a hexadecimal number, 0x00064 a coil: five digits are the longer form of the references, as in 4x00064
    if (match := _REFERENCE.fullmatch(text)) and (match[1] != "0" or (table is None and len(match[2]) == 5)):
        return _counted(text, _AREAS[match[1]], int(match[2]), 1)
    if match := _HEXADECIMAL.fullmatch(text):
        return _numbered(text, int(match[1] or match[2], 16), table, base)
    if _MODICON.fullmatch(text) and (table is None or not text.startswith("0")):
        return _modicon(text, table)
    if text.isdecimal():
        return _numbered(text, int(text), table, base)
    if match := _NAMED.fullmatch(text):
        for pattern, named in _WORDS:
            if pattern.search(match[1]):
                return _counted(text, named, int(match[2]), base)
    if _IN_THE_PLC.fullmatch(text):
        raise CellRefused(
            "address",
            f"{text} is an address inside the PLC, not a Modbus address",
            "the PLC's manual says which register it is in the PLC's Modbus map; write that, e.g. 40001",
        )
    raise CellRefused("address", f"{text!r} is no Modbus address", _EXAMPLES)


def _parsed(text: str) -> str:
    try:
        parse_address(text)
    except ValueError as error:
        raise CellRefused("address", str(error), _EXAMPLES) from None
    return text


def _counted(text: str, table: Table, number: int, base: int) -> str:
    offset = number - base
    if not 0 <= offset < CELLS:
        raise CellRefused("address", f"{text} is out of range: it counts from {base} to {base + CELLS - 1}", _EXAMPLES)
    return str(Address(table, offset))


def _numbered(text: str, number: int, table: Table | None, base: int) -> str:
    if table is not None:
        return _counted(text, table, number, base)
    raise CellRefused(
        "address",
        f"{text} alone does not say which table it is in, nor whether it counts from 0 or 1",
        f'add a column 功能码 with 01, 02, 03 or 04, or write e.g. "holding {number}" (counts from 0) or 4x{number:04} '
        "(counts from 1)",
    )


def _modicon(text: str, table: Table | None) -> str:
    address = _parsed(f"modicon {text}")
    if table is None or table is _AREAS[text[0]]:
        return address
    raise CellRefused(
        "address",
        f"{text} is a {_AREAS[text[0]].name.lower()} address, but the function code reads {table.name.lower()}",
        f'correct one of them, or write "{table.name.lower()} {int(text)}" if it is the address in the protocol',
    )


def _check_last(text: str, first: str, last: int, keys: Mapping[str, Any]) -> None:
    """ "40001-40002" says how many registers the point has; that must be what its type takes."""
    try:
        cells = ModbusPointConfig.model_validate({"point": "x", **keys}).cells
    except ValidationError:
        return  # whoever asks validates the point and says what is wrong
    digits = re.search(r"[0-9]+$", first)
    named = last - int(digits[0]) + 1 if digits else 0
    if named != cells:
        raise CellRefused(
            "address", f"{text} names {named} registers, but type {keys.get('type')} takes {cells}",
            "correct the address or the type",
        )  # fmt: skip
