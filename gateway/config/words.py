"""Words of messages: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that is most like `word`, None when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(words), 1, 0.6)), None)
