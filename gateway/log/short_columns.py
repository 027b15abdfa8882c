"""Columns of few values as bytes, in plain Python: the same bytes as `gateway.log.columns` makes with numpy.

numpy's calls cost about a microsecond each, whatever the length. A thousand small devices give batches of ten
readings, of which that was most of the cost.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Final

from gateway.log.encodings import (
    CONSTANT,
    DECIMAL,
    DELTAS,
    NARROW,
    OFFSETS,
    RANGE,
    RAW,
    decimals,
    narrow_width,
    usable_scale,
)

MOST: Final = 20
"""values up to which this is the faster way"""
_LAYOUT: Final = {1: "B", 2: "H", 4: "I"}


def encode_floats(raw: bytes, values: Sequence[float], width: int) -> bytes:
    """See `columns.encode_floats`; `raw` and `values` are the same, little-endian and as Python has them."""
    if raw[width:] == raw[:-width]:
        return bytes((CONSTANT,)) + raw[:width]
    decimal = _decimal(values, width)
    if decimal is not None and len(decimal) < len(raw):
        return decimal
    return bytes((RAW,)) + planes(raw, width)


def encode_integers(raw: bytes, values: Sequence[int], width: int) -> bytes:
    """See `columns.encode_integers`; `raw` and `values` are the same, little-endian and as Python has them."""
    if raw[width:] == raw[:-width]:
        return bytes((CONSTANT,)) + raw[:width]
    if width == 1:
        return bytes((RAW,)) + raw
    mask = (1 << 8 * width) - 1
    steps = [after - before & mask for before, after in itertools.pairwise(values)]
    if steps.count(steps[0]) == len(steps):
        return bytes((RANGE,)) + raw[:width] + steps[0].to_bytes(width, "little")
    low, high = min(values), max(values)
    span = high - low
    # The same bound as where numpy must not wrap.
    scale = usable_scale(math.gcd(*(value - low for value in values))) if width == 8 and 0xFFFF < span < 1 << 62 else 1
    narrow = narrow_width(span // scale)
    if narrow > 2:
        half = 1 << 8 * width - 1
        signed = [(step + half & mask) - half for step in steps]
        low_step, high_step = min(signed), max(signed)
        narrow_steps = narrow_width((high_step - low_step) // scale)
        if narrow_steps < min(narrow, width):
            return bytes((DELTAS,)) + raw[:width] + _narrowed(signed, low_step, width, scale, narrow_steps)
    if narrow < width:
        return bytes((OFFSETS,)) + _narrowed(values, low, width, scale, narrow)
    return bytes((RAW,)) + planes(raw, width)


def planes(raw: bytes, width: int) -> bytes:
    """First bytes of all values, then second bytes, and so on."""
    return b"".join([raw[place::width] for place in range(width)])


def _narrowed(values: Sequence[int], low: int, width: int, scale: int, narrow: int) -> bytes:
    """The values as base + scale x narrow unsigned."""
    offsets = [(value - low) // scale for value in values] if scale != 1 else [value - low for value in values]
    data = planes(struct.pack(f"<{len(offsets)}{_LAYOUT[narrow]}", *offsets), narrow)
    base = low & (1 << 8 * width) - 1
    return base.to_bytes(width, "little") + NARROW.pack(scale, narrow) + data


def _decimal(values: Sequence[float], width: int) -> bytes | None:
    """The values as integers over a power of ten, where dividing them gives back every bit; else None."""
    found = decimals(values, width)
    if found is None:
        return None
    digits, scaled = found
    return bytes((DECIMAL, digits)) + encode_integers(struct.pack(f"<{len(scaled)}q", *scaled), scaled, 8)
