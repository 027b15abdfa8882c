"""Numbers that look like noise and can be read back. Pure.

Counting values would compress to almost nothing in the log and print with few digits; measured values do neither. Odd
factors modulo a power of two and a shift of at least half the width are permutations, and easily undone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_FACTOR: Final = 0x9E3779B97F4A7C15
_INVERSE: Final = pow(_FACTOR, -1, 1 << 64)


def scramble(whole: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """int64[n] below 2**bits, one for each of `whole` (which are below 2**bits); `bits` <= 62."""
    return _mix(whole, _FACTOR, bits)


def unscramble(noise: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """What `scramble` was given."""
    return _mix(noise, _INVERSE, bits)


def _mix(column: npt.NDArray[np.int64], factor: int, bits: int) -> npt.NDArray[np.int64]:
    mask, multiplier, half = np.uint64((1 << bits) - 1), np.uint64(factor), np.uint64((bits + 1) // 2)
    mixed = column.astype(np.uint64) * multiplier & mask  # modulo 2**64 first
    mixed ^= mixed >> half
    return (mixed * multiplier & mask).astype(np.int64)
