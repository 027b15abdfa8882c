"""Patterns such as "{prefix}/{device}.{point}" and their expansion."""

from __future__ import annotations

import re
from collections.abc import Mapping

PLACEHOLDERS = ("prefix", "gateway", "device", "point", "tag")
"""what a pattern may name"""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class PatternError(ValueError):
    """A pattern cannot be used, or a point lacks what it names; the message is a sentence for the engineer."""


class Pattern:
    """A checked pattern. Raises `PatternError` for an unknown placeholder or a stray brace."""

    def __init__(self, text: str) -> None:
        parts = _PLACEHOLDER.split(text)
        self.text = text
        self._literals = parts[0::2]
        self._names = parts[1::2]
        for name in self._names:
            if name not in PLACEHOLDERS:
                raise PatternError(
                    f"unknown placeholder {{{name}}}; known are " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                )
        if any(brace in literal for literal in self._literals for brace in "{}"):
            raise PatternError('there is a "{" or "}" without its other half')

    @property
    def names(self) -> frozenset[str]:
        """The placeholders in use."""
        return frozenset(self._names)

    def expand(self, values: Mapping[str, str | None]) -> str:
        """The identifier for `values` (one per placeholder). Raises `PatternError` when one in use is missing."""
        parts = [self._literals[0]]
        for name, literal in zip(self._names, self._literals[1:], strict=True):
            value = values.get(name)
            if not value:
                raise PatternError(f"the pattern {self.text!r} uses {{{name}}}, but there is no {name}")
            parts += (value, literal)
        return "".join(parts)
