"""How a column may lie in the log (docs/log-format.md, Column), and the choices that do not depend on its length."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

RAW: Final = 0
CONSTANT: Final = 1
RANGE: Final = 2
OFFSETS: Final = 3
DELTAS: Final = 4
BITS: Final = 5
BLOBS: Final = 6
JSON: Final = 7
JSON_PLUS: Final = 8
DECIMAL: Final = 9

NARROW: Final = struct.Struct("<IB")
"""scale, and bytes of a narrow value"""
SECOND: Final = 1_000_000_000
"""ns"""
_F32: Final = struct.Struct("<f")
_DIGITS: Final = 6
_EXACT: Final = 2.0**52
_MAX_SCALE: Final = 0xFFFFFFFF


def narrow_width(span: int) -> int:
    """Bytes that hold 0 to `span`."""
    return 1 if span <= 0xFF else 2 if span <= 0xFFFF else 4 if span <= 0xFFFFFFFF else 8


def usable_scale(unit: int) -> int:
    """What to divide by where all differences are multiples of `unit`: clocks count in ms, us, or 100 ns."""
    if unit > _MAX_SCALE:
        return SECOND if unit % SECOND == 0 else 1
    return unit


def decimal_digits(sample: Sequence[float], width: int) -> int | None:
    """How many digits behind the point all of a few floats of `width` bytes have.

    None: too many, or not finite, or no gain. A single float with enough digits is always a decimal; spread over more
    than two bytes' range it takes its four bytes either way, and to find that out of all values costs most of all.
    """
    if not all(map(math.isfinite, sample)):
        return None
    fits = _is_single_decimal if width == 4 else _is_decimal
    digits = 0
    for value in sample:
        while not fits(value, 10.0**digits):
            digits += 1
            if digits > _DIGITS:
                return None
    if width == 4 and (max(sample) - min(sample)) * 10.0**digits > 0xFFFF:
        return None
    return digits


def _is_decimal(value: float, power: float) -> bool:
    scaled = value * power
    return -_EXACT < scaled < _EXACT and round(scaled) / power == value


def _is_single_decimal(value: float, power: float) -> bool:
    scaled = value * power
    return -_EXACT < scaled < _EXACT and _F32.unpack(_F32.pack(round(scaled) / power))[0] == value
