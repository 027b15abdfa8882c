"""Stream ids: ULIDs (48 bits of ms since the epoch, 80 random bits, Crockford base 32), so that they sort by age."""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(time_ns: int) -> str:
    """A new ULID for a moment in ns since the epoch; 26 characters."""
    number = (time_ns // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
