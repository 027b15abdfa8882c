"""Stream ids: ULIDs (48 bits of ms since the epoch, 80 random bits, Crockford base 32), so that they sort by age."""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(time_ns: int, after: str = "") -> str:
    """A new ULID for a moment in ns since the epoch; 26 characters. Sorts after `after`, whatever the clock says."""
    if after and time_ns // 1_000_000 <= _milliseconds(after):
        time_ns = (_milliseconds(after) + 1) * 1_000_000
    number = (time_ns // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def _milliseconds(known: str) -> int:
    """The 48 bits of time in a ULID's first ten characters."""
    return sum(_ALPHABET.index(digit) << 5 * place for place, digit in enumerate(reversed(known[:10])))
