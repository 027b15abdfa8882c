"""Local names from plant tags (位号), by a fixed rule; and points by whichever of both somebody writes.

The rule: letters, digits, "-" and "_" stay, accents go, every other letter becomes "u" and its Unicode number in
hexadecimal, every run of anything else becomes one "_". So the same tag gives the same name on every box, without a
dictionary of readings. What is longer than 64 letters ends in a hash of the whole.
"""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeVar

from gateway.contract import ConfigError, PointConfig

MOST_LETTERS = 64
"""length of a name: `gateway.contract.config.Name`"""
_HASH_LETTERS = 8
_KEPT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

P = TypeVar("P", bound=PointConfig)


def local_name(tag: str) -> str:
    """The local name for a plant tag: the same for the same tag, 1 to 64 letters; "point" where nothing is left."""
    made: list[str] = []
    for letter in unicodedata.normalize("NFKD", tag):
        if letter in _KEPT:
            made.append(letter)
        elif unicodedata.combining(letter):
            continue
        elif letter.isalnum():
            made.append(f"u{ord(letter):04X}")
        elif made and made[-1] != "_":
            made.append("_")
    name = "".join(made).strip("_")
    if len(name) > MOST_LETTERS:
        digest = hashlib.sha256(tag.encode("utf-8", "replace")).hexdigest()[:_HASH_LETTERS]
        name = f"{name[: MOST_LETTERS - _HASH_LETTERS - 1]}_{digest}"
    return name or "point"


class Names:
    """Names of one device; gives each new one only once, whatever the case."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name.casefold() for name in taken}
        self._next: dict[str, int] = {}

    def new(self, tag: str) -> str:
        """The local name for `tag`, with _2, _3 ... when it is taken."""
        base = unique = local_name(tag)
        number = self._next.get(base, 1)
        while unique.casefold() in self._taken:
            number += 1
            unique = f"{base[: MOST_LETTERS - len(str(number)) - 1]}_{number}"
        self._next[base] = number
        self._taken.add(unique.casefold())
        return unique


def find_point(points: Sequence[P], wanted: str, device: str) -> P:
    """The point whose local name or plant tag (位号) is `wanted`; a local name goes first.

    Raises ConfigError when there is none, or when more than one point has the tag.
    """
    for point in points:
        if point.point == wanted:
            return point
    tagged = [point for point in points if point.tag == wanted]
    if not tagged:
        tagged = [point for point in points if point.tag and point.tag.casefold() == wanted.casefold()]
    if len(tagged) == 1:
        return tagged[0]
    if tagged:
        names = ", ".join(point.point for point in tagged)
        raise ConfigError(f"device {device}: {len(tagged)} points have the tag {wanted}; name one of them: {names}")
    known = [text for point in points for text in (point.point, point.tag) if text]
    near = difflib.get_close_matches(wanted, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "`edge-gateway points export` lists them all"
    raise ConfigError(f"device {device} has no point with the name or tag {wanted}; {hint}")
