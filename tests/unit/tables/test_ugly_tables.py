"""Tables as plants have them: every problem is named with row and column, or the points are right."""

from pathlib import Path

import openpyxl
import yaml

from tests.unit.tables.plant import Plant


def points_of(plant: Plant) -> dict[str, dict[str, object]]:
    return {point["point"]: point for point in yaml.safe_load(plant.boiler.read_text())["points"]}


def merged_headings(file: Path) -> Path:
    """A title, headings on two lines with merged cells, groups, a repeated heading, notes and signatures."""
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    page.title = "boiler-1"
    page["A1"] = "青岛化工一厂 1 号锅炉数据采集点表"
    page.merge_cells("A1:K1")
    page["A2"] = "版本：V2.1"
    heads = ["序号", "位号", "名称", "寄存器地址", "数据类型", "字节序", "量程", None, "单位", "采集周期(ms)", "联锁"]
    for column, head in enumerate(heads, 1):
        if head:
            page.cell(3, column, head)
        if head != "量程" and head:
            page.merge_cells(start_row=3, end_row=4, start_column=column, end_column=column)
    page.merge_cells("G3:H3")
    page["G4"], page["H4"] = "下限", "上限"
    rows: list[list[object]] = [
        ["一、蒸汽系统"],
        [1, "ＰＩ－１０１", "蒸汽压力", 40001, "REAL", "ＣＤＡＢ", 0, 1.6, "MPa", 1000, "否"],
        [2, "TI-101", "蒸汽温度", "4x0003", "整型", None, 0, 600, "℃", 500, "否"],
        [],
        [3, "XL-101", "运行状态", 10001, "开关量", "CDAB", None, None, None, None, "是"],
        ["序号", "位号", "名称", "寄存器地址", "数据类型", "字节序", "量程", None, "单位", "采集周期(ms)", "联锁"],
        [4, "FI-101", "蒸汽流量（瞬时）", "holding 10", "浮点", 3412, 0, 50, "t/h", None, "否"],
        ["说明：1、地址为 Modbus 地址；2、备用点不采集。"],
        ["编制：", None, None, "审核：", None, None, None, "批准："],
    ]
    for row, cells in enumerate(rows, 5):
        for column, cell in enumerate(cells, 1):
            if cell is not None:
                page.cell(row, column, cell)
    page.merge_cells("A5:K5")
    book.save(file)
    return file


def test_merged_headings_groups_and_trailing_notes(plant: Plant) -> None:
    code, said = plant.run("import", merged_headings(plant.root / "点表.xlsx"), plant.config, "--apply")
    assert code == 0, said
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert "note: boiler-1: column K ('联锁') means nothing here and is left out" in notes
    assert "note: boiler-1: row 5 is no point and is left out: '一、蒸汽系统'" in notes
    assert (
        "note: boiler-1: row 12 is no point and is left out: '说明：1、地址为 Modbus 地址；2、备用点不采集。'" in notes
    )
    assert "note: boiler-1: row 13 is no point and is left out: '编制：'" in notes
    assert "note: boiler-1: full-width letters or digits were read as plain ones in 1 rows, first in row 6" in notes
    points = points_of(plant)
    assert list(points) == ["steam_pressure", "steam_temperature", "running", "FI-101"]
    assert points["steam_pressure"]["name"] == "蒸汽压力"
    assert points["steam_pressure"]["every"] == "1000ms"
    assert points["FI-101"]["name"] == "蒸汽流量（瞬时）"
    assert points["FI-101"]["order"] == "CDAB"
    assert "order" not in points["running"]


WRONG = """\
位号,名称,功能码,地址,类型,字节序,倍率,单位,备注
PI-101,蒸汽压力,03,0,REAL,CDAB,,MPa,
TI-101,蒸汽温度,,100,INT,,0.1,℃,
PI-101,给水压力,03,4,REAL,CDAB,,kPa(G),
LI-101,汽包液位,03,D100,REAL,CDAB,,mm,
FI-101,给水流量,03,8,模拟量,CDAB,,Nm³/h,
FI-102,排污流量,03,12,REAL,乱序,×0.1,m3/h,
TI-102,炉膛温度,04,40021,INT,,零点一,度,
XL-102,给水泵运行,12,3,BOOL,,,,
TI-103,,03,14,,,,℃,
TI-104
注：以上地址由厂家提供
"""
WRONG_SAID = """\
note: boiler-1: row 12 is no point and is left out: '注：以上地址由厂家提供'
note: boiler-1: numbers beside a function code are taken as counted from 0; --base 1 if this table counts from 1
boiler-1: 1 new, 1 changed, 0 gone, 0 unchanged
  + {point: PI-101, name: 给水压力, tag: PI-101, address: holding 4, type: float32, order: CDAB, unit: kPa(G)}
  ~ steam_pressure (PI-101), row 2: name: (none) -> 蒸汽压力
boiler-1, row 3, column D (地址): 100 alone does not say which table it is in, nor whether it counts from 0 or 1
    add a column 功能码 with 01, 02, 03 or 04, or write e.g. "holding 100" (counts from 0) or 4x0100 (counts from 1)
boiler-1, row 4, column A (位号): the 位号 PI-101 stands in row 2 already
    correct row 2 or row 4: a 位号 names one point
boiler-1, row 5, column D (地址): D100 is an address inside the PLC, not a Modbus address
    the PLC's manual says which register it is in the PLC's Modbus map; write that, e.g. 40001
boiler-1, row 6, column E (类型): '模拟量' is no data type that is known here
    write REAL, LREAL, INT, WORD, DINT, DWORD, BOOL or STRING, or e.g. float32, int16, uint16
boiler-1, row 7, column F (字节序): '乱序' is no byte order that is known here
    write ABCD (1234, 大端), CDAB (3412), BADC (2143) or DCBA (4321, 小端)
boiler-1, row 8, column G (倍率): expected a number, found '零点一'
    write the number alone, e.g. 0.1
boiler-1, row 8, column D (地址): 40021 is a holding address, but the function code reads input
    correct one of them, or write "input 40021" if it is the address in the protocol
boiler-1, row 9, column C (功能码): expected one function code that reads: 01 (coil), 02 (discrete input), 03 (holding \
register) or 04 (input register), found '12'
    correct the function code
boiler-1, row 10: a holding register does not say what it holds: add a type, e.g. type: float32
    correct the row
boiler-1, row 11: the row has no address
    fill in its Modbus address (地址), or delete the row
10 problems; nothing is written: correct the table, then import it again
"""


def test_a_gbk_table_with_all_that_is_wrong(plant: Plant) -> None:
    before = plant.boiler.read_text()
    code, said = plant.run("import", plant.csv(WRONG, "gb18030"), plant.config, "--apply")
    assert code == 2
    assert said.splitlines() == WRONG_SAID.splitlines()
    assert plant.boiler.read_text() == before


def test_mixed_units_stay_as_they_are_written(plant: Plant) -> None:
    table = (
        "位号;地址;类型;单位\r\nPI-101;holding 0;REAL;kPa(G)\r\nTI-1;40011;INT;℃\r\nFI-1;40012;INT;Nm³/h\r\n"
        "FI-2;40013;INT;m3/h\r\nJI-1;40014;INT;度\r\nAI-1;40015;INT;％\r\n"
    )
    assert plant.run("import", plant.csv("\ufeff" + table), plant.config, "--apply")[0] == 0
    units = {point.get("tag"): point.get("unit") for point in points_of(plant).values()}
    assert {tag: units[tag] for tag in ("PI-101", "TI-1", "FI-1", "FI-2", "JI-1", "AI-1")} == {
        "PI-101": "kPa(G)", "TI-1": "℃", "FI-1": "Nm³/h", "FI-2": "m3/h", "JI-1": "度", "AI-1": "%",
    }  # fmt: skip


def test_two_lines_of_headings_in_a_csv(plant: Plant) -> None:
    table = "位号,地址,类型,量程,,单位\n,,,下限,上限,\nPI-101,holding 0,REAL,0,1.6,MPa\n"
    code, said = plant.run("import", plant.csv(table), plant.config)
    assert code == 0, said
    assert "row 2" not in said


def test_sheets_name_their_devices(plant: Plant) -> None:
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    first.title = "封面"
    first["A1"] = "点表"
    for title, heads, cells in (
        ("1 号锅炉", ["位号", "地址", "类型"], ["PI-101", 40001, "REAL"]),
        ("reactor-3", ["位号", "NodeId"], ["TIC-301.PV", "nsu=http://plant.example/ua;s=R3.Temp"]),
        ("3号炉", ["位号", "地址", "类型"], ["PI-101", 40001, "REAL"]),
    ):
        page = book.create_sheet(title)
        page.append(heads)
        page.append(cells)
    hidden = book.create_sheet("old")
    hidden.sheet_state = "hidden"
    book.save(plant.root / "all.xlsx")
    code, said = plant.run("import", plant.root / "all.xlsx", plant.config)
    assert code == 2
    assert said.splitlines()[0] == "note: 封面: no row of headings, the sheet is left out"
    assert "boiler-1: 0 new, 0 changed, 2 gone, 1 unchanged\n" in said
    assert "reactor-3: 0 new, 0 changed, 1 gone, 1 unchanged\n" in said
    assert (
        "3号炉: the sheet '3号炉' is of no device (devices: boiler-1, reactor-3)\n"
        "    name the sheet like the device, or use --device\n"
    ) in said


def test_two_rows_for_one_point(plant: Plant) -> None:
    table = "位号,地址,类型\nPI-101,holding 0,REAL\nPI-101A,40001,REAL\n"
    code, said = plant.run("import", plant.csv(table), plant.config)
    assert code == 2
    assert (
        "boiler-1, row 3: rows 2 and 3 are both point steam_pressure\n"
        "    a point has one row: delete one of them, or correct its address or tag\n"
    ) in said


def test_the_kind_of_a_signal_is_not_its_type(plant: Plant) -> None:
    """As exported by many a DCS: 类型 is AI or DI, and 数据类型 stands further on."""
    table = (
        "点名,描述,类型,寄存器地址,数据类型\nPT3101,汽包压力,AI,40101,FLOAT\nP3-RUN,给水泵,DI,10003,BOOL\n备用,,,,\n"
    )
    code, said = plant.run("import", plant.csv(table), plant.config, "--device", "boiler-1")
    assert code == 0
    assert said.splitlines()[:5] == [
        "note: boiler-1: column C ('类型') means nothing here and is left out",
        "note: boiler-1: row 4 is no point and is left out: '备用'",
        "note: boiler-1: 1 new values of 32 or 64 bits have no byte order, first in row 2: ABCD is taken; --order CDAB "
        "for another (`edge-gateway read` shows a value in all)",
        "boiler-1: 2 new, 0 changed, 3 gone, 0 unchanged",
        "  + {point: PT3101, name: 汽包压力, tag: PT3101, address: modicon 40101, type: float32}",
    ]


def book_of(file: Path, *titles: str) -> Path:
    """A cover, and a sheet with a table for each title."""
    book = openpyxl.Workbook()
    for title in titles:
        page = book.create_sheet(title)
        page.append(["位号", "地址", "类型"])
        page.append(["PI-101", 40001, "REAL"])
    book.save(file)
    return file


def test_the_sheet_that_is_meant_by_a_device(plant: Plant) -> None:
    for titles, left_out in ((("Sheet1",), ["Sheet"]), (("boiler-1", "其他"), ["Sheet", "其他"])):
        code, said = plant.run("import", book_of(plant.root / "t.xlsx", *titles), plant.config, "--device", "boiler-1")
        assert code == 0, said
        assert said.splitlines()[: len(left_out) + 1] == [
            *(f"note: {name}: left out, because of --device boiler-1" for name in left_out),
            "boiler-1: 0 new, 0 changed, 2 gone, 1 unchanged",
        ]
    code, said = plant.run("import", book_of(plant.root / "t.xlsx", "A", "B"), plant.config, "--device", "boiler-1")
    assert (code, said) == (
        2,
        "--device boiler-1: several sheets hold tables (A, B); name the one that is meant boiler-1\n",
    )


def test_what_excel_does_to_numbers(plant: Plant) -> None:
    """40001.10 as a number is 40001.1; a tag can be a number; half a range is none; an error says nothing."""
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    page.title = "boiler-1"
    for row in (
        ["位号", "地址", "类型", "下限", "上限", "倍率"],
        [101, 40011, "WORD", 0, 10, 0.1],
        [102, 40012.1, "BOOL", None, None, None],
        [103, 40012.3, "BOOL", None, None, None],
        [104, 40013, "WORD", 0, None, None],
        [105, 40014, "WORD", 10, 0, None],
        [106, 40015, "WORD", None, None, "#DIV/0!"],
    ):
        page.append(row)
    book.save(plant.root / "t.xlsx")
    code, said = plant.run("import", plant.root / "t.xlsx", plant.config)
    assert code == 2
    assert said == (
        "boiler-1: 3 new, 0 changed, 0 gone, 0 unchanged\n"
        '  + {point: "101", tag: "101", address: modicon 40011, type: uint16, scale: 0.1, range: [0, 10]}\n'
        '  + {point: "103", tag: "103", address: modicon 40012, type: bool, bit: 3}\n'
        '  + {point: "106", tag: "106", address: modicon 40015, type: uint16}\n'
        "boiler-1, row 3, column B (地址): 40012.1 is a number in this cell: Excel shows bit 1 and bit 10 alike\n"
        "    format the column as text and write the bit again, or use a column 位\n"
        "boiler-1, row 5, column E (上限): the range has only one end\n"
        "    fill in both ends, or neither\n"
        "boiler-1, row 6: range: the lower number comes first, such as [0, 100]; found [10, 0]\n"
        "    correct the row\n"
        "3 problems; nothing is written: correct the table, then import it again\n"
    )
