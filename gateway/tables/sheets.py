"""Files with point tables as rows of cells: XLSX, XLS and ODS through calamine, CSV by itself; XLSX by openpyxl.

calamine reads 10,000 rows in a tenth of a second and old .xls files too; openpyxl writes. Both are the extra
`tables`, and neither is imported before a workbook is touched.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.contract import ConfigError

Cell = str | int | float | bool | None
"""what a cell holds; None for an empty one"""
WORKBOOKS = frozenset({".xlsx", ".xlsm", ".xls", ".ods"})
TEXTS = frozenset({".csv", ".txt", ".tsv"})
_HINT = "install it with: pip install 'edge-gateway[tables]'"
_BOM = "\ufeff"


@dataclass(slots=True)
class Sheet:
    """One sheet: rows from the first of the sheet, so that row i is number i + 1 for people."""

    name: str
    rows: list[list[Cell]]
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)
    """first row, first column, last row, last column of cells that are one, from 0"""


def column_letter(index: int) -> str:
    """0 as A, 26 as AA."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def cell_text(cell: Cell) -> str:
    """A cell as a person sees it; whole numbers without ".0"."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return str(cell).strip()


def read(file: Path) -> list[Sheet]:
    """Every visible sheet of a workbook, or the one table of a CSV file. Raises ConfigError, OSError."""
    suffix = file.suffix.lower()
    if suffix in WORKBOOKS:
        return _read_workbook(file)
    if suffix in TEXTS:
        return [Sheet(file.stem, _read_csv(file))]
    raise ConfigError(f"{file}: expected a file that ends in .xlsx, .xls, .ods or .csv")


def _read_workbook(file: Path) -> list[Sheet]:
    try:
        import python_calamine as calamine  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(f"{file}: reading Excel files needs python-calamine; {_HINT}") from None
    file.stat()  # an OSError says what is wrong with the path; calamine has its own words
    try:
        book = calamine.CalamineWorkbook.from_path(str(file))
        sheets = []
        for about in book.sheets_metadata:
            if about.visible != calamine.SheetVisibleEnum.Visible:
                continue
            sheet = book.get_sheet_by_name(about.name)
            rows = [[_cell(value) for value in row] for row in sheet.to_python(skip_empty_area=False)]
            merged = [(*first, *last) for first, last in sheet.merged_cell_ranges or ()]
            sheets.append(Sheet(about.name, rows, merged))
    except calamine.CalamineError as error:
        raise ConfigError(f"{file}: this is no workbook that can be read ({error}); save it again as .xlsx") from error
    return sheets


def _cell(value: object) -> Cell:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    return None


def _read_csv(file: Path) -> list[list[Cell]]:
    text = decode(file, file.read_bytes())
    sample = "\n".join(text.splitlines()[:30])
    # The separator is the one there is most of in the first lines: a quoted heading may hold some of the others.
    delimiter = max(",;\t", key=sample.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [[cell.strip() or None for cell in row] for row in rows]
    except csv.Error as error:
        raise ConfigError(f"{file}: line {rows.line_num}: {error}; save it again as CSV") from error


def decode(file: Path, content: bytes) -> str:
    """The text of a file that Excel wrote: UTF-8 with or without BOM, UTF-16 with BOM, else GB18030.

    Raises ConfigError when it is none of them.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
    raise ConfigError(f"{file}: line {line} is neither UTF-8 nor GB18030; save it again as CSV UTF-8")


def write(file: Path, sheets: Sequence[Sheet]) -> None:
    """Write a workbook with a sheet each, or one sheet as CSV: UTF-8 with BOM and CRLF, as Excel opens it by itself.

    Raises ConfigError when the kind of file cannot hold that, OSError.
    """
    suffix = file.suffix.lower()
    if suffix == ".csv":
        if len(sheets) != 1:
            raise ConfigError(f"{file}: a CSV file holds one device; choose one with --device, or write .xlsx")
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\r\n").writerows(map(cell_text, row) for row in sheets[0].rows)
        file.write_bytes((_BOM + buffer.getvalue()).encode())
    elif suffix == ".xlsx":
        _write_workbook(file, sheets)
    else:
        raise ConfigError(f"{file}: expected a file that ends in .xlsx or .csv")


def _write_workbook(file: Path, sheets: Iterable[Sheet]) -> None:
    try:
        import openpyxl  # noqa: PLC0415 - an extra
        from openpyxl.styles import Font  # noqa: PLC0415 - an extra
        from openpyxl.utils import get_column_letter  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(f"{file}: writing Excel files needs openpyxl; {_HINT}") from None
    book = openpyxl.Workbook()
    del book[book.active.title]  # type: ignore[union-attr]  # a new workbook has one
    for sheet in sheets:
        page = book.create_sheet(sheet.name)
        for number, row in enumerate(sheet.rows, 1):
            for index, value in enumerate(row, 1):
                if value is None:
                    continue
                cell = page.cell(number, index, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # a tag that begins with "=" is no formula
        for index, heading in enumerate(sheet.rows[0], 1):
            page.cell(1, index).font = Font(bold=True)
            longest = max(len(cell_text(row[index - 1])) for row in sheet.rows[:100])
            page.column_dimensions[get_column_letter(index)].width = min(48, max(8, 2 + 2 * len(str(heading)), longest))
        page.freeze_panes = "A2"
    book.save(file)
