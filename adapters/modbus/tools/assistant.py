"""The byte-order assistant: what registers would be in every type and order, the plausible ones first. Pure.

Values come from the adapter's own decoder, so that what is shown here is what a device file with these keys would read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from adapters.modbus.address import Address
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.planner import Block, Span
from adapters.modbus.point import ModbusPointConfig
from gateway.contract import Batch, Point
from gateway.contract.registers import Hint, Meaning
from gateway.contract.status import GOOD

_ORDERS: Final = ("ABCD", "CDAB", "BADC", "DCBA")
_TYPES: Final[tuple[tuple[str, int, dict[str, Any]], ...]] = (
    ("int16", 1, {}),
    ("uint16", 1, {}),
    ("int16", 1, {"sign": "magnitude"}),
    ("float16", 1, {}),
    ("bcd", 1, {"length": 1}),
    ("int32", 2, {}),
    ("uint32", 2, {}),
    ("float32", 2, {}),
    ("bcd", 2, {"length": 2}),
    ("timestamp", 2, {"format": "unix"}),
    ("int64", 4, {}),
    ("uint64", 4, {}),
    ("float64", 4, {}),
    ("bcd", 4, {"length": 4}),
    ("string", 4, {"length": 8}),
)
"""with the registers that they take"""
_SCALES: Final = (1.0, 0.1, 0.01, 0.001, 10.0, 100.0)
_NEAR: Final = 0.05
"""a value this close to the expected one may be it: displays round, and values move"""
_TINY: Final = 1e-6
"""floats closer to 0 than this are mostly integers taken for floats"""


def meanings(address: Address, raw: bytes, hint: Hint) -> tuple[Meaning, ...]:
    """Everything that `raw` would be, from `address` on; what fits the hint first."""
    if address.table.is_bits:
        return (Meaning("bool", "", bool(raw[0] & 1), 1.0, None, {"address": str(address)}),)
    found = [_meaning(config, raw, hint) for config in _configs(address, len(raw) // 2)]
    fits = sorted((one for one in found if one.rank is not None), key=lambda one: one.rank or 0.0)
    return (*fits, *(one for one in found if one.rank is None))


def _configs(address: Address, registers: int) -> Iterator[ModbusPointConfig]:
    for type, words, keys in _TYPES:
        if words > registers:
            continue
        for order in ("ABCD", "BADC") if words == 1 or type == "string" else _ORDERS:
            content = {"point": "p", "address": address, "type": type, "order": order, **keys}
            yield ModbusPointConfig.model_validate(content)


def _meaning(config: ModbusPointConfig, raw: bytes, hint: Hint) -> Meaning:
    value = _decode(config, raw)
    scale, rank = _fit(value, hint, config.register_type.startswith("float"))
    keys: dict[str, Any] = {"address": str(config.address), "type": config.register_type.value}
    if config.order != "ABCD":
        keys["order"] = config.order
    for key in ("length", "format"):
        if getattr(config, key) is not None:
            keys[key] = getattr(config, key)
    if config.sign == "magnitude":
        keys["sign"] = config.sign
    if scale != 1:
        keys["scale"] = scale
    name = config.register_type.value + (" +sign bit" if config.sign == "magnitude" else "")
    return Meaning(name, config.order, value, scale, rank, keys)


def _decode(config: ModbusPointConfig, raw: bytes) -> Any:
    size = config.words
    block = Block(config.address.table, config.address.offset, size, (Span(config.address.offset, size, 0),))
    batch: Batch = Layout("", [Point(0, config)], [block]).decode(
        Replies([raw[: 2 * size]], [GOOD], [True], [0]), 0, 0
    )[0]
    if not batch.valid[0]:
        return None
    value = batch.values[0]
    if batch.values.dtype.kind == "f":
        return float(str(value))  # the shortest decimal of its own width: 20.1, not 20.100000381469727
    return value.item() if hasattr(value, "item") else value


def _fit(value: Any, hint: Hint, is_float: bool) -> tuple[float, float | None]:
    """The scale with which a value fits what the engineer knows, and how far it is then: 0 = exactly."""
    if isinstance(value, bool | str) or value is None or not math.isfinite(value):
        return 1.0, None
    if is_float and value and abs(value) < _TINY:
        return 1.0, None
    best: tuple[float, float | None] = (1.0, None)
    for place, scale in enumerate(_SCALES[:1] if is_float else _SCALES):
        distance = _distance(value * scale, hint)
        if distance is None:
            continue
        rank = distance + 0.02 * place  # a plain value is likelier than a scaled one that is a little closer
        if best[1] is None or rank < best[1]:
            best = scale, rank
    return best


def _distance(value: float, hint: Hint) -> float | None:
    if (hint.low is not None and value < hint.low) or (hint.high is not None and value > hint.high):
        return None
    if hint.expected is not None:
        distance = abs(value - hint.expected) / max(abs(hint.expected), 1e-9)
        return distance if distance <= _NEAR else None
    return None if hint.low is None and hint.high is None else (0.0 if value else 1.0)
