"""统一社会信用代码: the unified social credit code of GB 32100-2015, 18 characters, the last a check digit."""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""31 characters: I, O, S, V and Z are left out (GB 32100-2015, table 2)"""
LENGTH = 18
_WEIGHTS = tuple(pow(3, i, 31) for i in range(LENGTH - 1))


def check_digit(first: str) -> str:
    """The check digit of the first 17 characters (GB 32100-2015, 4.6). Raises ValueError for a wrong character."""
    total = sum(weight * ALPHABET.index(character) for weight, character in zip(_WEIGHTS, first, strict=True))
    return ALPHABET[-total % 31]


def validate(code: str) -> str:
    """The code itself. Raises ValueError saying which character is wrong and what was expected."""
    if len(code) != LENGTH:
        raise ValueError(
            f"expected a unified social credit code (统一社会信用代码) of 18 characters, found {len(code)}"
        )
    for position, character in enumerate(code, 1):
        if character not in ALPHABET:
            raise ValueError(
                f"character {position} is {character!r}; a unified social credit code has digits and capital letters "
                "without I, O, S, V and Z"
            )
    expected = check_digit(code[:-1])
    if code[-1] != expected:
        raise ValueError(
            f"the check digit does not fit: expected {expected!r} as the last character, found {code[-1]!r}; "
            "one of the 18 characters is wrong"
        )
    return code
