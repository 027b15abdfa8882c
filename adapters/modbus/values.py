"""Values that no gather can make: decimal digits, text, bytes, arrays. One reader per point, chosen once. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from adapters.modbus.point import ModbusPointConfig, RegisterType
from adapters.modbus.timestamps import timestamp_reader
from gateway.contract.status import BAD_DECODING_ERROR, BAD_OUT_OF_RANGE, GOOD

Read = Callable[[Any], tuple[Any, int]]
"""From a point's bytes as sent (in a table of bits: its uint8 bits) to (value, status); value is nothing if Bad"""

_ENCODINGS: Final = ("utf-8", "gbk")
"""tried in this order: GBK, GB 2312's superset, is what older Chinese panels and PLCs write"""


def scalar_reader(config: ModbusPointConfig) -> Read:
    """The reader for one point of type bcd, string, bytes or timestamp, or of any type with `count`."""
    if config.address.table.is_bits:
        return lambda bits: (bits.astype(np.bool_).tolist(), GOOD)
    if config.count is not None:
        return _array_reader(config)
    length = config.length or 1
    byte_swap = config.swaps_bytes
    match config.register_type:
        case RegisterType.BCD:
            word_swap, signed = config.swaps_words, config.sign == "magnitude"
            return lambda raw: _bcd(_arrange(raw, word_swap, byte_swap), signed)
        case RegisterType.TIMESTAMP:
            word_swap = config.swaps_words
            read = timestamp_reader(config.format or "unix", config.zone)
            return lambda raw: read(_arrange(raw, word_swap, byte_swap))
        case RegisterType.STRING:
            return lambda raw: _text(_arrange(raw, False, byte_swap)[:length])
        case _:
            return lambda raw: (_arrange(raw, False, byte_swap)[:length], GOOD)


def _arrange(raw: bytes, word_swap: bool, byte_swap: bool) -> bytes:
    """The registers' bytes, most significant first."""
    if not (word_swap or byte_swap):
        return raw
    words = np.frombuffer(raw, "<u2" if byte_swap else ">u2").astype(">u2")
    return (words[::-1] if word_swap else words).tobytes()


def _bcd(raw: bytes, signed: bool) -> tuple[int, int]:
    """Four decimal digits a register; a nibble above 9 is not a number: Bad, out of range. The highest bit may sign."""
    negative = signed and raw[0] >= 0x80
    digits = (bytes((raw[0] & 0x7F,)) + raw[1:] if negative else raw).hex()
    if not digits.isdecimal():
        return 0, BAD_OUT_OF_RANGE
    return -int(digits) if negative else int(digits), GOOD


def _text(raw: bytes) -> tuple[str, int]:
    """Text up to the first NUL without the blanks that pad it; Bad, decoding error, if it is no known encoding."""
    content = raw.split(b"\0", 1)[0]
    for encoding in _ENCODINGS:
        try:
            return content.decode(encoding).rstrip(), GOOD
        except UnicodeDecodeError:
            continue
    return "", BAD_DECODING_ERROR


def _array_reader(config: ModbusPointConfig) -> Read:
    type, words = config.register_type, config.words
    view = "<u2" if config.swaps_bytes else ">u2"
    step = 1 if config.swaps_words else -1
    bit = config.bit

    def little_endian(raw: bytes) -> Any:
        return np.frombuffer(raw, view).astype("<u2").reshape(-1, words)[:, ::step].flatten()

    if type is RegisterType.BOOL:
        mask = 0xFFFF if bit is None else 1 << bit
        return lambda raw: (((little_endian(raw) & mask) != 0).tolist(), GOOD)
    if type in (RegisterType.INT8, RegisterType.UINT8):
        return lambda raw: (little_endian(raw).astype(np.uint8).view(type.value).tolist(), GOOD)
    dtype = np.dtype(type.value).newbyteorder("<")
    if dtype.kind == "f":
        return lambda raw: ([_json_float(number) for number in little_endian(raw).view(dtype)], GOOD)
    return lambda raw: (little_endian(raw).view(dtype).tolist(), GOOD)


def _json_float(number: np.floating[Any]) -> float | str:
    """The shortest decimal that is this number in its own width (20.1, not 20.100000381469727); JSON has no NaN."""
    if math.isfinite(number):
        return float(str(number))
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
