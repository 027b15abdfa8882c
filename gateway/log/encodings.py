"""How a column may lie in the log (docs/log-format.md, Column), and the choices that do not depend on its length."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
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
_POWERS: Final = tuple(10.0**digits for digits in range(7))
_LITTLE: Final = 1e-9
_ALL: Final = 20
_F32: Final = struct.Struct("<f")
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


def sampled(count: int) -> slice:
    """Which of a column's floats say whether it is worth a look at all: of a short one all, of others eight or so."""
    return slice(None) if count <= _ALL else slice(0, 8 * (count // 8), count // 8)


def decimals(sample: Sequence[float], width: int) -> tuple[int, list[int]] | None:
    """How many digits behind the point floats of `width` bytes have, and what they are without the point.

    Divided by that power of ten the integers give back every bit of the sample. None: too many digits, or not finite,
    or no gain. A single float with enough digits is always a decimal; spread over more than two bytes' range it takes
    its four bytes either way, and to find that out of all values costs most of all.
    """
    if not math.isfinite(sum(sample)):
        return None
    first, low, high = sample[0], min(sample), max(sample)
    most = _EXACT / max(-low, high, 1.0)
    single = _F32.pack if width == 4 else float
    if width == 4:
        most = min(most, 0xFFFF / max(high - low, _LITTLE))
    powers = _POWERS[: bisect_right(_POWERS, most)]
    # With most digits a first value that is no decimal shows it.
    if not powers or single(round(first * powers[-1]) / powers[-1]) != single(first):
        return None
    layout = f"<{len(sample)}{'f' if width == 4 else 'd'}"
    stored = struct.pack(layout, *sample)
    for digits, power in enumerate(powers):
        if single(round(first * power) / power) != single(first):
            continue
        scaled = [round(value * power) for value in sample]
        if struct.pack(layout, *[number / power for number in scaled]) == stored:
            return digits, scaled
    return None
