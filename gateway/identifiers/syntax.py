"""Syntax of industrial-internet identifiers: prefix "/" suffix; the first "/" divides them, later ones are legal.

Limits: 255 characters is what the registration interfaces of secondary nodes take for a handle (SNMS and IDHub field
limits); 2048 bytes is the resolution protocol's limit. The prefix is root.secondary-node.enterprise, numbers joined by
".", where leading zeros matter: it is text, never a number.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

MAX_CHARACTERS = 255
MAX_BYTES = 2048

_PREFIX = re.compile(r"(8[68])(\.[0-9]+){1,2}")


class Finding(NamedTuple):
    """What is wrong with an identifier: a whole clause to be put after its name."""

    severity: Literal["error", "warning"]
    message: str
    hint: str = ""


def check_prefix(prefix: str) -> Finding | None:
    """Judge a prefix such as 88.118.8. A foreign root is a warning: 10., 20. and 21. exist in the Handle System."""
    if not prefix:
        return Finding("error", "is empty", "write what the secondary node assigned, such as 88.118.8")
    if "/" in prefix:
        return Finding("error", 'holds a "/"; the prefix is what stands before it')
    if _PREFIX.fullmatch(prefix):
        return None
    return Finding(
        "warning",
        f"begins with {prefix!r}, which is not a Chinese prefix",
        "expected 86 or 88 and one or two numbers, such as 88.118.8",
    )


def check_identifier(identifier: str) -> Finding | None:
    """The worst finding about a whole identifier; None = nothing wrong."""
    prefix, slash, suffix = identifier.partition("/")
    size = len(identifier.encode())
    if not identifier.isprintable() or identifier != identifier.strip():
        return Finding("error", "holds a control character, or begins or ends with a space")
    if size > MAX_BYTES:
        return Finding("error", f"has {size} bytes; resolvers take at most {MAX_BYTES}")
    if slash and not suffix:
        return Finding("error", 'has nothing after the "/"')
    if len(identifier) > MAX_CHARACTERS:
        return Finding(
            "warning",
            f"has {len(identifier)} characters; nodes register at most {MAX_CHARACTERS}, so it may be refused",
        )
    if not slash:
        return Finding("warning", 'has no "/": expected prefix/suffix such as 88.118.8/boiler-1.level')
    return check_prefix(prefix)
