"""Scale and offset with one rounding: decimal factors are applied as exact fractions.

3 x 0.1 must read 0.3, not 0.30000000000000004: with scale = a/d and offset = b/d the reading is (raw x a + b) / d,
whose numerator is exact for every integer raw value below 2**53 / a.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import NamedTuple


class Linear(NamedTuple):
    """reading = (raw x factor + addend) / divisor"""

    factor: float
    addend: float
    divisor: float


IDENTITY = Linear(1.0, 0.0, 1.0)


def linear(scale: float | None, offset: float | None) -> Linear:
    """The exact fraction form of a decimal scale and offset as they were written; None means 1 and 0."""
    if scale is None and offset is None:
        return IDENTITY  # most points: a start with thousands of them must not wait for fractions
    factor = Fraction(Decimal(repr(scale))) if scale is not None else Fraction(1)
    addend = Fraction(Decimal(repr(offset))) if offset is not None else Fraction(0)
    divisor = lcm(factor.denominator, addend.denominator)
    parts = (factor * divisor, addend * divisor, Fraction(divisor))
    if any(abs(part) >= 1 << 53 for part in parts):
        return Linear(float(factor), float(addend), 1.0)
    return Linear(*map(float, parts))
