"""How a device lays values out in 16-bit registers; written from the specification, not from our decoder.

Big-endian layout of a value's bytes is `ABCD` (for eight bytes ABCDEFGH). The other orders permute it:

    ABCD  as it is                       ABCDEFGH
    CDAB  registers in reverse           GHEFCDAB
    BADC  bytes swapped in each register BADCFEHG
    DCBA  all bytes in reverse           HGFEDCBA
"""

from __future__ import annotations

import struct

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")

_STRUCT = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float16": ">e",
    "float32": ">f",
    "float64": ">d",
}


def encode(value: float | int, type: str, order: str = "ABCD") -> list[int]:
    """Registers (0..65535) of a number; `int8` and `uint8` sit in the low byte. Raises ValueError for another type."""
    if type in ("int8", "uint8"):
        low, high = (-128, 127) if type == "int8" else (0, 255)
        if not low <= value <= high:
            raise ValueError(f"{value} does not fit {type}")
        return arrange(bytes([0, int(value) & 0xFF]), order)
    if type not in _STRUCT:
        raise ValueError(f"unknown type {type!r}; known: int8, uint8, {', '.join(_STRUCT)}")
    return arrange(struct.pack(_STRUCT[type], value), order)


def encode_bcd(value: int, registers: int, order: str = "ABCD") -> list[int]:
    """Registers of a packed decimal number: one digit in four bits, the most significant first."""
    digits = f"{value:0{4 * registers}d}"
    if value < 0 or len(digits) > 4 * registers:
        raise ValueError(f"{value} does not fit {4 * registers} BCD digits")
    return arrange(bytes.fromhex(digits), order)


def encode_text(text: str | bytes, registers: int, *, swapped: bool = False, fill: bytes = b"\0") -> list[int]:
    """Registers of a text (UTF-8), filled up at the end; `swapped` puts each pair of characters in reverse."""
    content = text.encode() if isinstance(text, str) else text
    if len(content) > 2 * registers:
        raise ValueError(f"{text!r} does not fit {registers} registers")
    return arrange(content.ljust(2 * registers, fill), "BADC" if swapped else "ABCD")


def arrange(content: bytes, order: str) -> list[int]:
    """Big-endian bytes (an even number) as registers in the given order."""
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}; known: {', '.join(ORDERS)}")
    pairs = [content[i : i + 2] for i in range(0, len(content), 2)]
    if order in ("CDAB", "DCBA"):
        pairs.reverse()
    if order in ("BADC", "DCBA"):
        pairs = [pair[::-1] for pair in pairs]
    return [int.from_bytes(pair, "big") for pair in pairs]
