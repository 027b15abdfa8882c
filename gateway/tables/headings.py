"""Finds the headings of a point table, on one line or two, below titles, and knows what each column is."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.tables.sheets import Cell, Sheet, cell_text, column_letter
from gateway.tables.words import plain

_WORDS = {
    "point": "本地名 本地名称 localname local point pointname",
    "tag": "位号 点号 标签 标签名 仪表位号 测点编号 测点号 点位编号 点位号 变量名 tag tagname tagno tagnumber "
    "点名 kks kks编码",
    "name": "名称 描述 点描述 中文描述 测点名称 点位名称 变量描述 中文名称 中文名 参数名称 参数 信号名称 name "
    "description desc 点名称 "
    "测点描述 用途",
    "address": "地址 寄存器地址 寄存器 通讯地址 通信地址 modbus地址 modbusaddress 变量地址 点地址 起始地址 "
    "plc地址 address addr "
    "register registeraddress 寄存器号",
    "function": "功能码 function functioncode fc 寄存器类型 区 寄存器区 数据区 读功能码 registertype",
    "node": "nodeid 节点 节点id 节点号 节点标识 opc节点 opcua节点 node itemid opc地址",
    "type": "数据类型 类型 变量类型 数据格式 type datatype 格式",
    "order": "字节序 字节顺序 字序 order byteorder 大小端 wordorder",
    "bit": "位 bit 位序 位序号 位号序 bitno",
    "length": "长度 length 字节数",
    "count": "数量 count 数组长度 个数",
    "scale": "倍率 系数 比例 比例系数 变比 乘数 缩放 换算系数 scale factor multiplier ratio gain 精度",
    "offset": "偏移 偏移量 零点 offset bias",
    "unit": "单位 工程单位 计量单位 unit units engunit engunits euunit eu",
    "low": "量程下限 下限 低限 最小值 量程低 下限值 量程low low min rangelow lowerrange 量程下限值 量程最小值 测量下限",
    "high": "量程上限 上限 高限 最大值 量程高 上限值 high max rangehigh upperrange 量程上限值 量程最大值 测量上限",
    "range": "量程 量程范围 测量范围 range span 范围",
    "every": "读取周期 采集周期 周期 采样周期 采集频率 扫描周期 period every scanrate polling pollinterval "
    "interval 刷新周期",
    "id": "标识 标识码 标识编码 工业互联网标识 identifier id",
    "description": "备注 说明 note notes remark remarks comment",
    "": "序号 编号 no no. # 序 num index 项次",
}
"""what columns are called, by their key; the key "" is of numbers that nobody needs"""
_KEYS = {word: key for key, words in _WORDS.items() for word in words.split()}
_WEAK = frozenset({"类型", "type", "参数", "变量名", "编号", "区"})
"""headings that mean something else where the table has a plainer one: 类型 is AI or DI beside 数据类型"""
CHINESE = {
    "point": "本地名", "tag": "位号", "name": "名称", "address": "地址", "node": "节点", "type": "数据类型",
    "order": "字节序", "bit": "位", "length": "长度", "count": "数量", "scale": "倍率", "offset": "偏移",
    "unit": "单位", "range": "量程", "every": "读取周期", "id": "标识", "description": "备注",
}  # fmt: skip
ENGLISH = {
    "point": "Local name", "tag": "Tag", "name": "Name", "address": "Address", "node": "NodeId", "type": "Type",
    "order": "Order", "bit": "Bit", "length": "Length", "count": "Count", "scale": "Scale", "offset": "Offset",
    "unit": "Unit", "range": "Range", "every": "Period", "id": "Identifier", "description": "Note",
}  # fmt: skip
_UNITS = {"ms": "ms", "毫秒": "ms", "s": "s", "秒": "s", "sec": "s", "min": "min", "分钟": "min", "分": "min"}
_LOOKED_AT = 40
"""rows in which headings are looked for: no title page is longer"""
_PLACES = frozenset({"address", "node"})
_NAMES = frozenset({"point", "tag", "name"})


class Column(NamedTuple):
    """A column that was recognised."""

    place: int
    key: str
    heading: str
    unit: str | None
    """of durations, where the heading says it: 周期(ms)"""

    @property
    def letter(self) -> str:
        """As the spreadsheet shows it."""
        return column_letter(self.place)


@dataclass(frozen=True, slots=True)
class Headings:
    """Where a table's headings are and what they mean."""

    first: int
    """row of the first data, from 0"""
    columns: tuple[Column, ...]
    unknown: tuple[tuple[str, str], ...]
    """letters and headings of columns that nothing is known of"""
    repeated: tuple[str, ...]
    """the texts of the heading row, to know it again on the next printed page"""


def find_headings(sheet: Sheet, fields: Collection[str]) -> Headings | None:
    """The headings of a sheet, None when there are none. `fields`: keys of the config that are headings too."""
    rows = [[cell_text(cell) for cell in row] for row in sheet.rows[: _LOOKED_AT + 2]]
    _spread(rows, sheet.merged)
    for index, row in enumerate(rows[:_LOOKED_AT]):
        below = rows[index + 1] if index + 1 < len(rows) else []
        two = _headings(index, row, below, fields) if _belongs(row, below, fields) else None
        found = two or _headings(index, row, (), fields)
        if found:
            return found
    return None


def _spread(rows: list[list[str]], merged: Sequence[tuple[int, int, int, int]]) -> None:
    """A merged cell says the same everywhere."""
    for first_row, first_column, last_row, last_column in merged:
        if first_row >= len(rows) or first_column >= len(rows[first_row]):
            continue
        text = rows[first_row][first_column]
        for row in rows[first_row : last_row + 1]:
            for column in range(first_column, min(last_column + 1, len(row))):
                row[column] = text


def _belongs(upper: Sequence[str], lower: Sequence[str], fields: Collection[str]) -> bool:
    """Whether the row below is the second line of headings: nothing else stands in it, and something does."""
    filled = [(a, b) for a, b in zip(upper, lower, strict=False) if b]
    if not any(a != b for a, b in filled):
        return False
    return all(a == b or _key(a + b, fields) or _key(b, fields) for a, b in filled)


def _headings(index: int, upper: Sequence[str], lower: Sequence[str], fields: Collection[str]) -> Headings | None:
    columns: list[Column] = []
    unknown: list[tuple[str, str]] = []
    taken: set[str] = set()
    group = ""
    for number, text in enumerate(upper):
        below = lower[number] if number < len(lower) else ""
        group = text or (group if below else "")  # a group's name stands over its first column alone in a CSV
        key, heading = _of_two(group, below, fields) if below and below != text else (_key(text, fields), text)
        if key is None:
            if heading:
                unknown.append((column_letter(number), heading))
        elif key in taken:
            first = next(column for column in columns if column.key == key)
            if plain(first.heading).casefold() in _WEAK:
                columns[columns.index(first)] = Column(number, key, heading, _unit(heading))
                unknown.append((first.letter, first.heading))
            else:
                unknown.append((column_letter(number), heading))
        elif key:
            taken.add(key)
            columns.append(Column(number, key, heading, _unit(heading)))
    if not taken & _NAMES or not (taken & _PLACES or len(taken) >= 3):
        return None
    return Headings(index + (2 if lower else 1), tuple(columns), tuple(unknown), tuple(upper))


def _of_two(upper: str, lower: str, fields: Collection[str]) -> tuple[str | None, str]:
    for text in (upper + lower, lower, upper):
        if (key := _key(text, fields)) is not None:
            return key, f"{upper} {lower}"
    return None, f"{upper} {lower}"


def _key(heading: str, fields: Collection[str]) -> str | None:
    """What a heading means: a key, "" for what nobody needs, None when nothing is known of it."""
    text = plain(heading).casefold()
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", "", text) or text
    bare = re.sub(r"[\s_\-.*:/]+", "", bare)
    # What people call columns goes first: a plant's "Description" is the name of the point.
    if bare in _KEYS:
        return _KEYS[bare]
    if text in fields:
        return text
    # 位号/Tag No., 名称 Description: both languages in one cell say the same
    pieces = [_KEYS.get(piece) for piece in re.findall(r"[\u4e00-\u9fff]+|[a-z]+", bare)]
    return pieces[0] if len(pieces) > 1 and len(set(pieces)) == 1 else None


def _unit(heading: str) -> str | None:
    found = re.search(r"[(\[]\s*([a-z\u4e00-\u9fff]+)\s*[)\]]", plain(heading).casefold())
    return _UNITS.get(found[1]) if found else None


def is_repeated(headings: Headings, row: Sequence[Cell]) -> bool:
    """Whether a row is the headings once more, as on every printed page."""
    if not any(cell in headings.repeated for cell in row[:3] if cell):
        return False  # nearly every row, cheaply
    texts = [cell_text(cell) for cell in row]
    said = [text for text in texts if text]
    return len(said) > 1 and all(text == head for text, head in zip(texts, headings.repeated, strict=False) if text)
