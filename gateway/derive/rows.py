"""Readings of one point as columns, as derived points take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract.status import BAD_WAITING_FOR_INITIAL_DATA


class Rows(NamedTuple):
    """Readings of one point by source time, which is strictly increasing; the value of a Bad one is NaN."""

    time: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint32]
    basis: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]

    def take(self, rows: Any) -> Rows:
        """Those that `rows` selects."""
        return Rows(*(column[rows] for column in self))


NEVER: Final = Rows(
    np.array([np.iinfo(np.int64).min]),
    np.array([np.nan]),
    np.array([BAD_WAITING_FOR_INITIAL_DATA], np.uint32),
    np.zeros(1, np.uint8),
    np.zeros(1, np.uint8),
)
"""of an operand that never had a reading"""


def joined(parts: Sequence[Rows]) -> Rows:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    columns: Iterable[Any] = zip(*parts, strict=True)
    return Rows(*map(np.concatenate, columns))


def widened(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """float32 as float64 by their decimals, as they are printed: 20.1 stays 20.1 and is not 20.100000381469727.

    With the fewest significant digits, seven to nine, that give the same float32 back;
    below 1e-13 and above 1e28 some stay as they are.
    """
    wide = values.astype(np.float64)
    result = wide
    with np.errstate(all="ignore"):
        place = np.floor(np.log10(np.abs(wide)))
        for digits in (6, 7, 8):
            # Powers of ten are exact up to 22, so that the quotient is the float64 nearest to the decimal.
            up, down = 10.0 ** np.clip(digits - place, 0, 22), 10.0 ** np.clip(place - digits, 0, 32)
            decimal = np.rint(wide * up / down) * down / up
            same = decimal.astype(np.float32) == values
            result = np.where((result == wide) & same, decimal, result)
            if same.all():
                break
    return result
