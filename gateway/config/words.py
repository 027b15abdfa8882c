"""Words of messages: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable

_OTHER_WORDS = {
    "station": ("unit", "unit_id", "unitid", "slave", "slave_id", "slaveid", "device_id", "站号", "从站", "从站地址"),
    "url": ("host", "ip", "ip_address", "port", "server", "endpoint", "endpoint_url", "broker", "地址", "IP", "端口"),
    "every": ("interval", "period", "cycle", "poll", "poll_interval", "scan_rate", "rate", "周期", "采集周期"),
    "sampling": ("every", "interval", "period", "周期", "采集周期", "采样周期"),
    "type": ("datatype", "data_type", "format", "类型", "数据类型"),
    "order": ("byte_order", "byteorder", "word_order", "endian", "swap", "字节序", "字序"),
    "scale": ("factor", "gain", "multiplier", "ratio", "coefficient", "倍率", "系数"),
    "offset": ("bias", "偏移"),
    "address": ("register", "reg", "addr", "地址", "寄存器", "寄存器地址"),
    "node": ("nodeid", "node_id", "address", "地址", "节点", "节点号"),
    "unit": ("engineering_unit", "uom", "eu", "单位", "工程单位"),
    "tag": ("tagname", "tag_name", "位号"),
    "name": ("label", "title", "display_name", "名称", "描述", "点名"),
    "point": ("id", "key", "测点", "点"),
    "range": ("量程", "limits", "span"),
    "user": ("username", "login", "用户", "用户名"),
    "timeout": ("超时",),
    "adapter": ("driver", "protocol", "协议", "驱动"),
    "device": ("设备", "设备名"),
    "points": ("tags", "signals", "测点", "点表"),
    "path": ("folder", "directory", "目录"),
    "keep": ("retention", "保留"),
    "budget": ("max_size", "size", "容量"),
}
"""what other products and point tables call our keys"""


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that is most like `word`, None when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(words), 1, 0.6)), None)


def meant_key(word: str, valid: Iterable[str]) -> str | None:
    """The valid key that was probably meant by an unknown one: another product's word for it, or a misspelling."""
    keys = list(valid)
    called = (key for key in keys if _is_called(word, _OTHER_WORDS.get(key, ())))
    return next(called, None) or nearest(word, keys)


def _is_called(word: str, others: Container[str]) -> bool:
    return word in others or word.lower() in others
