"""Rows of a point table as points: keys of the config, and everything that is wrong by sheet, row and column."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.contract import PointConfig
from gateway.contract.tables import CellRefused, HasTables
from gateway.tables.headings import Column, Headings, find_headings, is_repeated
from gateway.tables.sheets import Cell, Sheet, cell_text, column_letter
from gateway.tables.words import half_width, is_nothing, order_word, period_word, plain, type_word

TEXTS = frozenset({"tag", "name", "unit", "id", "description", "node"})
NUMBERS = frozenset({"scale", "offset"})
WHOLE_NUMBERS = frozenset({"bit", "length", "count"})
LONG = frozenset({"int32", "uint32", "float32", "int64", "uint64", "float64"})
"""types of more than one register, which have an order of words"""
_PLACE = ("address", "function")
_NOTES = re.compile(
    r"(?:说明|备注|注|附注|注意|编制|校对|校核|审核|批准|审定|设计|日期|版本|合计|共计|制表|note|remarks?|prepared|checked|approved|rev)"
    r"人?(?:by)?\s*(?:[:、.(0-9]|$)",
    re.IGNORECASE,
)
_RANGE = re.compile(r"(-?[0-9.]+(?:e[-+]?[0-9]+)?)\s*(?:-|~|…|\.\.|to|至|到|,)\s*(-?[0-9.]+(?:e[-+]?[0-9]+)?)")


@dataclass(frozen=True, slots=True)
class TableProblem:
    """Something wrong with a table; row from 1, column as a letter (empty = the row, or the sheet, as a whole)."""

    sheet: str
    row: int
    column: str
    message: str
    """what was expected and found"""
    hint: str = ""
    """the next step"""

    def __str__(self) -> str:
        where = f"{self.sheet}, row {self.row}" if self.row else self.sheet
        where += f", column {self.column}" if self.column else ""
        return f"{where}: {self.message}" + (f"\n    {self.hint}" if self.hint else "")


@dataclass(slots=True)
class Row:
    """A point of a table: what it says and what it says there is not."""

    number: int
    keys: dict[str, Any]
    cleared: set[str]
    """keys whose cell says "-": the point shall not have them"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """letter and heading of the column by key, for messages"""


@dataclass(slots=True)
class Table:
    """A sheet as points."""

    sheet: str
    rows: list[Row]
    problems: list[TableProblem]
    notes: list[str]


def convert(
    sheet: Sheet, model: type[PointConfig], adapter: object, *, base: int = 0, order: str | None = None
) -> Table | None:
    """The points of a sheet; None when it has no headings.

    `model` and `adapter` are the device's; `base` is where addresses with a function code count from, `order` what
    points of more than one register get whose row names none.
    """
    headings = find_headings(sheet, model.model_fields)
    if headings is None:
        return None
    return _Converter(sheet, headings, model, adapter, base, order).table()


class _Converter:
    """One sheet on its way."""

    def __init__(
        self,
        sheet: Sheet,
        headings: Headings,
        model: type[PointConfig],
        adapter: object,
        base: int,
        order: str | None,
    ) -> None:
        self._sheet = sheet
        self._headings = headings
        self._fields = model.model_fields
        self._adapter = adapter if isinstance(adapter, HasTables) else None
        self._base = base
        self._order = order
        self._converted: list[int] = []
        self._read: list[Row] = []  # those with something wrong too
        self._counted = False
        self._problems: list[TableProblem] = []
        self._notes = [
            f"{sheet.name}: column {letter} ({heading!r}) means nothing here and is left out"
            for letter, heading in headings.unknown
        ]
        self._columns, self._letters = self._known_columns()
        self._places = [column.place for column in self._columns if column.key in ("address", "node")]

    def _known_columns(self) -> tuple[list[Column], dict[str, str]]:
        """The columns for which the device has a key, each under the device's own key."""
        columns = []
        for column in self._headings.columns:
            key = column.key
            if key in ("address", "node") and key not in self._fields:
                key = "node" if key == "address" else "address"
            if key == "every" and key not in self._fields:
                key = "sampling"
            if key in ("low", "high", "range") and "range" not in self._fields:
                self._notes.append(
                    f"{self._sheet.name}: column {column.letter} ({column.heading!r}) is left out: the config has no "
                    "key for it"
                )
            elif key in self._fields or key in ("low", "high") or (key == "function" and "address" in self._fields):
                columns.append(column._replace(key=key))
            else:
                self._notes.append(
                    f"{self._sheet.name}: column {column.letter} ({column.heading!r}) is left out: points of this "
                    "device have none"
                )
        return columns, {column.key: f"{column.letter} ({column.heading})" for column in columns}

    def table(self) -> Table:
        rows: list[Row] = []
        for index in range(self._headings.first, len(self._sheet.rows)):
            cells = self._sheet.rows[index]
            if all(cell is None for cell in cells) or is_repeated(self._headings, cells):
                continue
            if note := self._note(cells):
                self._notes.append(f"{self._sheet.name}: row {index + 1} is no point and is left out: {note!r}")
            elif row := self._row(index, cells):
                rows.append(row)
        self._find_twice()
        if self._converted:
            first = self._converted[0] + 1
            self._notes.append(
                f"{self._sheet.name}: full-width letters or digits were read as plain ones in {len(self._converted)} "
                f"rows, first in row {first}"
            )
        if self._counted:
            self._notes.append(
                f"{self._sheet.name}: numbers beside a function code are taken as counted from {self._base}; "
                f"--base {1 - self._base} if this table counts from {1 - self._base}"
            )
        return Table(self._sheet.name, rows, self._problems, self._notes)

    def _note(self, cells: Sequence[Cell]) -> str | None:
        """The text of a row that is no point: a group's title, a note, signatures."""
        places = [at for at in self._places if at < len(cells) and cells[at] is not None]
        if places and not any(_NOTES.match(plain(cell_text(cells[at]))) for at in places):
            return None
        said = [(index, text) for index, cell in enumerate(cells) if (text := cell_text(cell))]
        ours = {column.place: column.key for column in self._columns}
        if all(_NOTES.match(plain(text)) for _, text in said):
            return said[0][1]
        if places:
            return None
        if _NOTES.match(plain(said[0][1])):
            return said[0][1]
        if len(said) > 1 and len({text for _, text in said}) > 1:
            return None
        index, text = said[0]
        looks_like_tag = ours.get(index) in ("tag", "point") and text.isascii() and " " not in text
        return None if looks_like_tag else text

    def _row(self, index: int, cells: Sequence[Cell]) -> Row | None:
        row = Row(index + 1, {}, set(), self._letters)
        self._read.append(row)
        place: dict[str, str] = {}
        right = True
        for column in self._columns:
            cell = cells[column.place] if column.place < len(cells) else None
            if cell is None or (text := cell_text(cell)) == "":
                continue
            if is_nothing(text):
                row.cleared.add(column.key)
                continue
            if column.key in _PLACE:
                place[column.key] = self._plain(index, text)
                if column.key == "address" and isinstance(cell, float) and not self._check_bit(index, column, text):
                    del place["address"]
                    right = False
                continue
            try:
                self._take(row.keys, index, column, cell, text)
            except CellRefused as error:
                right = False
                self._problem(index, column, error.message, error.hint)
        row.cleared -= row.keys.keys()
        row.cleared.discard("function")
        if place.get("address") and self._adapter:
            right = self._locate(index, row, place, self._adapter) and right
        elif place.get("address"):
            row.keys["address"] = place["address"]
        if "low" in row.keys or "high" in row.keys:
            right = self._join_range(index, row) and right
        return row if right else None

    def _take(self, keys: dict[str, Any], index: int, column: Column, cell: Cell, text: str) -> None:
        """One cell into the keys of its point. Raises CellRefused."""
        key = column.key
        if key in TEXTS:
            keys[key] = half_width(text) if key != "name" else text
            if keys[key] != text:
                self._wide(index)
        elif key in NUMBERS or key in ("low", "high"):
            keys[key] = _number(key, self._plain(index, text))
        elif key in WHOLE_NUMBERS:
            keys[key] = _whole(key, self._plain(index, text))
        elif reader := _READERS.get(key):
            reader(keys, column, self._plain(index, text))
        else:
            keys[key] = _other(cell, text)

    def _plain(self, index: int, text: str) -> str:
        better = plain(text)
        if better != text and better != text.strip():
            self._wide(index)
        return better.strip()

    def _wide(self, index: int) -> None:
        if not self._converted or self._converted[-1] != index:
            self._converted.append(index)

    def _check_bit(self, index: int, column: Column, text: str) -> bool:
        if not text.endswith(".1"):
            return True
        self._problem(
            index,
            column,
            f"{text} is a number in this cell: Excel shows bit 1 and bit 10 alike",
            "format the column as text and write the bit again, or use a column 位",
        )
        return False

    def _locate(self, index: int, row: Row, place: dict[str, str], adapter: HasTables) -> bool:
        """Where the point is, in the words of the adapter."""
        cells = place | {key: row.keys[key] for key in ("type", "order") if key in row.keys}
        if "order" not in cells and self._order and cells.get("type") in LONG:
            cells["order"] = self._order
        try:
            keys = adapter.table_keys(cells, self._base)
        except CellRefused as error:
            column = next(each for each in self._columns if each.key == error.column)
            self._problem(index, column, error.message, error.hint)
            return False
        row.keys.pop("order", None)
        row.keys |= keys
        self._counted = self._counted or ("function" in place and place["address"].isdecimal() and
                                          not str(keys["address"]).startswith("modicon"))  # fmt: skip
        return True

    def _join_range(self, index: int, row: Row) -> bool:
        low, high = row.keys.pop("low", None), row.keys.pop("high", None)
        if low is None or high is None:
            column = next(each for each in self._columns if each.key == ("low" if low is None else "high"))
            self._problem(index, column, "the range has only one end", "fill in both ends, or neither")
            return False
        row.keys["range"] = [low, high]
        return True

    def _problem(self, index: int, column: Column, message: str, hint: str) -> None:
        where = f"{column.letter} ({column.heading})"
        self._problems.append(TableProblem(self._sheet.name, index + 1, where, message, hint))

    def _find_twice(self) -> None:
        for key, what in (("tag", "位号"), ("point", "local name"), ("id", "identifier")):
            seen: dict[str, int] = {}
            for row in self._read:
                value = row.keys.get(key)
                if value is None:
                    continue
                first = seen.setdefault(str(value).casefold(), row.number)
                if first != row.number:
                    self._problems.append(
                        TableProblem(
                            self._sheet.name, row.number, row.columns[key],
                            f"the {what} {value} stands in row {first} already",
                            f"correct row {first} or row {row.number}: a {what} names one point",
                        )
                    )  # fmt: skip


def _type(keys: dict[str, Any], column: Column, text: str) -> None:
    type, order = type_word(text)
    if type is None:
        raise CellRefused(
            column.key,
            f"{text!r} is no data type that is known here",
            "write REAL, LREAL, INT, WORD, DINT, DWORD, BOOL or STRING, or e.g. float32, int16, uint16",
        )
    keys["type"] = type
    if order and "order" not in keys:
        keys["order"] = order


def _set_order(keys: dict[str, Any], column: Column, text: str) -> None:
    order = order_word(text)
    if order is None:
        raise CellRefused(
            column.key,
            f"{text!r} is no byte order that is known here",
            "write ABCD (1234, 大端), CDAB (3412), BADC (2143) or DCBA (4321, 小端)",
        )
    keys["order"] = order


def _period(keys: dict[str, Any], column: Column, text: str) -> None:
    period = period_word(text, column.unit)
    if period is None:
        raise CellRefused(
            column.key,
            f"expected a time with its unit, found {text!r}",
            "write e.g. 1s, 500ms or 1min, or name the unit in the heading: 读取周期(ms)",
        )
    keys[column.key] = period


def _set_range(keys: dict[str, Any], column: Column, text: str) -> None:
    found = _RANGE.match(text.casefold().strip(" []("))
    try:
        low, high = (float(found[1]), float(found[2])) if found else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise CellRefused(column.key, f"expected a range such as 0-1.6, found {text!r}", "write the lower end first")
    keys["range"] = [_short(low), _short(high)]


def _local(keys: dict[str, Any], column: Column, text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise CellRefused(
            column.key,
            f"a local name has letters, digits, - and _ (at most 64), found {text!r}",
            "correct it, or leave the cell empty: the name is made of the 位号",
        )
    keys["point"] = text


_READERS: dict[str, Callable[[dict[str, Any], Column, str], None]] = {
    "type": _type,
    "order": _set_order,
    "every": _period,
    "sampling": _period,
    "publishing": _period,
    "range": _set_range,
    "point": _local,
}


def _number(key: str, text: str) -> float | int:
    try:
        number = float(text.lstrip("×xX*"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CellRefused(key, f"expected a number, found {text!r}", "write the number alone, e.g. 0.1")
    return _short(number)


def _short(number: float) -> float | int:
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _whole(key: str, text: str) -> int:
    if not text.isdecimal():
        raise CellRefused(key, f"expected a whole number, found {text!r}", "write the number alone, e.g. 2")
    return int(text)


def _other(cell: Cell, text: str) -> Any:
    """A key of the config by its own name: as JSON where it is more than a word."""
    if isinstance(cell, bool | int | float):
        return _short(float(cell)) if not isinstance(cell, bool) else cell
    try:
        return json.loads(text)
    except ValueError:
        return text


def where(table: Table, row: Row, key: str) -> tuple[str, int, str]:
    """Sheet, row and column of a key, for a problem; the row alone when the table has no such column."""
    return table.sheet, row.number, row.columns.get(key, "")


__all__ = ["Row", "Table", "TableProblem", "column_letter", "convert", "where"]
