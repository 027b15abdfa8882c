"""What people call data types, byte orders, durations and "nothing" in point tables."""

from __future__ import annotations

import re
import unicodedata

TYPES = {
    "bool": "bool boolean bit di do 开关量 开关 布尔 布尔量 布尔型 位 数字量",
    "int8": "int8 sint char 有符号字节",
    "uint8": "uint8 usint byte 字节 无符号字节",
    # IEC 61131-3, table 10: INT has 16 bits, DINT 32; a PLC table means that, not the int of C.
    "int16": "int16 int short 整型 整数 整形 短整型 有符号整型 有符号16位 16位有符号 16位有符号整数 16位整型 "
    "16位整数 i16 s16",
    "uint16": "uint16 uint word ushort unsigned 无符号整型 无符号整数 无符号 字 无符号16位 16位无符号 "
    "16位无符号整数 u16",
    "int32": "int32 dint long longint 双整型 双整数 长整型 长整数 有符号32位 32位有符号 32位有符号整数 "
    "32位整型 i32 s32",
    "uint32": "uint32 udint dword ulong 双字 无符号长整型 无符号双整型 无符号32位 32位无符号 32位无符号整数 u32",
    "int64": "int64 lint llong 64位有符号 64位整型 i64 s64",
    "uint64": "uint64 ulint lword qword 64位无符号 u64",
    "float16": "float16 half 半精度",
    "float32": "float32 float real single 浮点 浮点数 浮点型 单精度 单精度浮点 单精度浮点数 实数 实型 32位浮点 "
    "32位浮点数 4字节浮点 浮点32位 f32",
    "float64": "float64 double lreal 双精度 双精度浮点 双精度浮点数 长实型 64位浮点 64位浮点数 f64",
    "bcd": "bcd bcd16 bcd码",
    "string": "string str text 字符串 文本",
    "bytes": "bytes 字节串",
    "timestamp": "timestamp 时间戳",
}
_TYPES = {word: type for type, words in TYPES.items() for word in words.split()}
_ORDERS = {
    "ABCD": "abcd 1234 0123 大端 大端模式 bigendian big 高字在前 高位在前 高字节在前 be",
    "CDAB": "cdab 3412 2301 低字在前 字交换 wordswap 双字交换 浮点反序",
    "BADC": "badc 2143 1032 字节交换 byteswap",
    "DCBA": "dcba 4321 3210 小端 小端模式 littleendian little 低位在前 le",
    "ABCDEFGH": "abcdefgh 12345678",
    "GHEFCDAB": "ghefcdab 78563412",
    "BADCFEHG": "badcfehg 21436587",
    "HGFEDCBA": "hgfedcba 87654321",
}
_ORDER_WORDS = {word: order for order, words in _ORDERS.items() for word in words.split()}
_NOTHING = frozenset({"-", "--", "—", "——", "–", "/", "\\", "无", "n/a", "na", "none"})
_PERIODS = {"毫秒": "ms", "秒": "s", "分钟": "min", "分": "min", "小时": "h", "sec": "s", "msec": "ms"}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z\u4e00-\u9fff]*)(?:/次)?")
_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}


def plain(text: str) -> str:
    """Letters, digits and signs as a keyboard has them, by Unicode's NFKC; for what is read by rule, not shown."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def half_width(text: str) -> str:
    """Full-width letters, digits and signs as plain ones, all else (℃, m³) as it is; for plant tags and units."""
    return text if text.isascii() else text.translate(_FULL_WIDTH)


def is_nothing(text: str) -> bool:
    """Whether a cell says that there is nothing: "-", "/", "无"."""
    return plain(text).casefold() in _NOTHING


def _bare(text: str) -> str:
    return re.sub(r"[\s_\-,.]+", "", plain(text).casefold())


def type_word(text: str) -> tuple[str | None, str | None]:
    """The type that a cell names, and the byte order where the cell names that too: "REAL", "float CDAB", "浮点"."""
    if type := _TYPES.get(_bare(text)):
        return type, None
    parts = re.split(r"[\s(（)）/]+", plain(text).strip())
    parts = [part for part in parts if part]
    if len(parts) == 2 and (order := order_word(parts[1])):
        return _TYPES.get(_bare(parts[0])), order
    return None, None


def order_word(text: str) -> str | None:
    """The byte order that a cell names: "CDAB", "3412", "大端"; None when it is no such word."""
    return _ORDER_WORDS.get(_bare(text))


def period_word(text: str, unit: str | None) -> str | None:
    """A duration as the config writes it, of "1s", "1000 毫秒", or "1000" under a heading with `unit`."""
    found = _DURATION.fullmatch(plain(text).casefold().strip())
    if found is None:
        return None
    named = _PERIODS.get(found[2], found[2]) or unit
    if named not in ("ms", "s", "m", "min", "h", "d"):
        return None
    return f"{found[1].removesuffix('.0')}{named}"
