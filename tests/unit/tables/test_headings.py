"""What columns are called."""

import pytest

from adapters.modbus.point import ModbusPointConfig
from gateway.tables.headings import CHINESE, ENGLISH, find_headings
from gateway.tables.sheets import Cell, Sheet

FIELDS = ModbusPointConfig.model_fields


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("位号", "tag"), ("仪表位号/Tag No.", "tag"), ("位号 Tag", "tag"), ("Tag Name", "tag"), ("点位编号\n", "tag"),
        ("名称 Description", "name"), ("Description", "name"), ("寄存器地址\n(十进制)", "address"),
        ("Modbus 地址", "address"), ("Register Address", "address"), ("功能码", "function"), ("Node Id", "node"),
        ("数据类型*", "type"), ("Data Type", "type"), ("字节序", "order"), ("倍率", "scale"), ("偏移量", "offset"),
        ("工程单位", "unit"), ("Eng. Units", "unit"), ("量程", "range"), ("量程下限（MPa）", "low"),
        ("Scan Rate", "every"), ("采集周期(ms)", "every"), ("备注", "description"), ("工业互联网标识", "id"),
        ("sign", "sign"), ("max_silence", "max_silence"),
    ],
)  # fmt: skip
def test_known(heading: str, key: str) -> None:
    row: list[Cell] = ["点名" if key != "tag" else "名称", "地址" if key != "address" else "数据类型", "单位", heading]
    if key == "unit":
        row[2] = "倍率"
    headings = find_headings(Sheet("a", [row]), FIELDS)
    assert headings is not None
    assert headings.columns[-1].key == key
    assert not headings.unknown


@pytest.mark.parametrize("heading", ["报警上限", "高报 High", "PLC", "联锁", "位号 地址"])
def test_unknown(heading: str) -> None:
    headings = find_headings(Sheet("a", [["位号", "地址", "类型", heading]]), FIELDS)
    assert headings is not None
    assert headings.unknown == (("D", heading),)


def test_units_of_periods() -> None:
    for heading, unit in (("周期(ms)", "ms"), ("采集周期（秒）", "s"), ("周期", None)):
        headings = find_headings(Sheet("a", [["位号", "地址", "类型", heading]]), FIELDS)
        assert headings is not None
        assert headings.columns[-1].unit == unit


@pytest.mark.parametrize("words", [CHINESE, ENGLISH])
def test_what_is_exported_is_known(words: dict[str, str]) -> None:
    headings = find_headings(Sheet("a", [list(words.values())]), ())
    assert headings is not None
    assert [column.key for column in headings.columns] == list(words)


@pytest.mark.parametrize("row", [["压力", "温度"], ["位号"], [1, 2, 3], [], ["位号", "位号", "位号"]])
def test_no_headings(row: list[Cell]) -> None:
    assert find_headings(Sheet("a", [row]), FIELDS) is None
