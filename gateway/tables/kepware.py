"""KEPServerEX's tag CSV export as a point table: its heading record, types, addresses and scaling.

Columns and their meaning: Kepware, "Tag CSV import and export" (Tag Name, Address, Data Type, Respect Data Type, Client
Access, Scan Rate, Scaling, Raw Low, Raw High, Scaled Low, Scaled High, Scaled Data Type, Clamp Low, Clamp High, Eng
Units, Description, Negate Value). Addresses: PTC, Modbus drivers, "Modbus Addressing": 41, 4001 and 400001 are one
register; .0 to .15 is a bit, .20H a string of 20 bytes, [4][16] an array. OPC UA client: the address is the node id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from gateway.tables.convert import TableProblem
from gateway.tables.sheets import Cell, Sheet, cell_text, column_letter

ORDER = "CDAB"
"""of values of more than one register where nothing else is said: "First word low" is on unless switched off"""
_TYPES = {
    "boolean": "bool", "char": "int8", "byte": "uint8", "short": "int16", "word": "uint16", "long": "int32",
    "dword": "uint32", "llong": "int64", "qword": "uint64", "float": "float32", "double": "float64",
    "string": "string", "bcd": "bcd", "lbcd": "bcd", "date": "string",
}  # fmt: skip
_HEADINGS = {
    "tag name": "Tag", "address": "Address", "data type": "Data Type", "scan rate": "Scan Rate(ms)", "scaling": "Scale",
    "raw low": "Offset", "eng units": "Eng Units", "eng. units": "Eng. Units", "description": "Description",
    "scaled low": "Length",
}  # fmt: skip
"""what stands in each column after the change; scale, offset and length take columns that are used up"""
_SHORT = re.compile(r"([0134])([0-9]{1,3})(?![0-9])(.*)", re.DOTALL)


def is_export(sheet: Sheet) -> bool:
    """Whether this is KEPServerEX's export: its heading record is the first row."""
    names = {cell_text(cell).casefold() for cell in sheet.rows[0]} if sheet.rows else set()
    return {"tag name", "address", "data type", "client access", "scan rate", "scaling"} <= names


def as_table(sheet: Sheet) -> tuple[Sheet, list[TableProblem], list[str]]:
    """The export as a table with headings that `convert` knows, its rows and columns where they were."""
    head = {cell_text(cell).casefold(): index for index, cell in enumerate(sheet.rows[0])}
    problems: list[TableProblem] = []
    notes: list[str] = []
    rows: list[list[Cell]] = [[_HEADINGS.get(cell_text(cell).casefold(), "No.") for cell in sheet.rows[0]]]
    for index, cells in enumerate(sheet.rows[1:], 1):
        said = {name: cell_text(cells[at]) for name, at in head.items() if at < len(cells)}
        row: list[Cell] = [None] * len(sheet.rows[0])
        if said.get("client access", "").upper() == "WO":
            notes.append(f"{sheet.name}: row {index + 1} ({said['tag name']}) can only be written and is left out")
        elif any(said.values()):
            _fill(row, head, said)
            try:
                scale, offset = _scaling(said)
            except ValueError as error:
                at = head["scaling"]
                where = f"{column_letter(at)} (Scaling)"
                problems.append(TableProblem(sheet.name, index + 1, where, str(error), "set Linear or None there"))
                row = [None] * len(row)
            else:
                row[head["scaling"]] = scale
                if "raw low" in head:
                    row[head["raw low"]] = offset
        rows.append(row)
    return Sheet(sheet.name, rows), problems, notes


def _fill(row: list[Cell], head: Mapping[str, int], said: Mapping[str, str]) -> None:
    type = said.get("data type", "").casefold().removesuffix("array").strip()
    for name in ("tag name", "eng units", "eng. units", "description"):
        if said.get(name):
            row[head[name]] = said[name]
    address = said["address"]
    if short := _SHORT.fullmatch(address):
        address = f"{short[1]}{short[2]:0>4}{short[3]}"
    row[head["address"]] = address
    row[head["data type"]] = _TYPES.get(type, said.get("data type"))
    if type == "lbcd" and "scaled low" in head:
        row[head["scaled low"]] = 2  # registers of four digits
    rate = said.get("scan rate", "")
    if rate and rate != "0":
        row[head["scan rate"]] = rate


def _scaling(said: Mapping[str, str]) -> tuple[Cell, Cell]:
    """Scale and offset of raw and scaled ends; nothing where nothing is scaled. Raises ValueError."""
    kind = said.get("scaling", "").casefold()
    if kind in ("", "none"):
        return None, None
    if kind != "linear":
        raise ValueError(f"scaling {said['scaling']} cannot be done with a scale and an offset")
    try:
        raw_low, raw_high, low, high = (
            Fraction(said[name]) for name in ("raw low", "raw high", "scaled low", "scaled high")
        )
    except (KeyError, ValueError):
        raise ValueError("linear scaling needs numbers in Raw Low, Raw High, Scaled Low and Scaled High") from None
    if raw_low == raw_high:
        raise ValueError(f"Raw Low and Raw High are both {said['raw low']}")
    scale = (high - low) / (raw_high - raw_low)
    offset = low - raw_low * scale
    if said.get("negate value") in ("1", "True", "TRUE"):
        scale, offset = -scale, -offset
    return (None if scale == 1 else float(scale)), (None if offset == 0 else float(offset))
