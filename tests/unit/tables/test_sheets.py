"""Files as they come: encodings, separators, kinds."""

import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

from gateway.contract import ConfigError
from gateway.tables.sheets import Sheet, column_letter, read, write

ROWS = [["位号", "单位"], ["PI-101", "m³/h"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path: Path, encoding: str, separator: str) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("\r\n".join(separator.join(row) for row in ROWS).encode(encoding))
    assert [sheet.rows for sheet in read(file)] == [ROWS]


def test_what_is_no_text_and_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xff\n")
    with pytest.raises(ConfigError, match=r"t\.csv: line 2 is neither UTF-8 nor GB18030; save it again as CSV UTF-8"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.xlsx").write_bytes(b"hello")
    with pytest.raises(ConfigError, match=r"t\.xlsx: this is no workbook that can be read"):
        read(tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match=r"t\.doc: expected a file that ends in \.xlsx, \.xls, \.ods or \.csv"):
        read(tmp_path / "t.doc")


def test_merged_cells_and_where_rows_are(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    page["B3"] = "位号"
    page.merge_cells("B3:C4")
    page["B5"] = 40001
    book.save(tmp_path / "t.xlsx")
    (sheet,) = read(tmp_path / "t.xlsx")
    assert sheet.rows[2][1] == "位号"
    assert sheet.rows[4][1] == 40001
    assert sheet.merged == [(2, 1, 3, 2)]


def test_letters() -> None:
    assert [column_letter(index) for index in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    hint = r"install it with: pip install 'edge-gateway\[tables\]'"
    with pytest.raises(ConfigError, match=rf"t\.xlsx: reading Excel files needs python-calamine; {hint}"):
        read(tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match=rf"t\.xlsx: writing Excel files needs openpyxl; {hint}"):
        write(tmp_path / "t.xlsx", [Sheet("a", [["位号"]])])


def test_the_other_commands_import_none_of_this() -> None:
    code = (
        "import sys, gateway.commands.cli, gateway.commands.run; "
        "print([name for name in sys.modules if name.startswith(('gateway.tables', 'openpyxl', 'python_calamine'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
