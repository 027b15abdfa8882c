"""Numbers that look like noise and can be read back. Pure.

Counting values would compress to almost nothing in the log and print with few digits; measured values do neither. An
odd factor modulo a power of two is a permutation, and its inverse is one too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_FACTOR: Final = 0x9E3779B97F4A7C15
_INVERSE: Final = pow(_FACTOR, -1, 1 << 64)


def scramble(whole: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """int64[n] below 2**bits, one for each of `whole` (which are below 2**bits); `bits` <= 62."""
    return _multiply(whole, _FACTOR, bits)


def unscramble(noise: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """What `scramble` was given."""
    return _multiply(noise, _INVERSE, bits)


def _multiply(column: npt.NDArray[np.int64], factor: int, bits: int) -> npt.NDArray[np.int64]:
    product = column.astype(np.uint64) * np.uint64(factor)  # modulo 2**64
    return (product & np.uint64((1 << bits) - 1)).astype(np.int64)
