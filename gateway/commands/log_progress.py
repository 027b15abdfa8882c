"""How far a command is, on standard error, where somebody looks."""

from __future__ import annotations

import sys
import time
from typing import Final

_EVERY_S: Final = 0.2
_WIDTH: Final = 30


class Progress:
    """A bar on the terminal; nothing at all where standard error is something else."""

    def __init__(self, first: int, end: int) -> None:
        """Positions of the log, from and to."""
        self._first = first
        self._span = max(1, end - first)
        self._begun = self._shown = time.monotonic()
        self._on = sys.stderr.isatty()
        self._length = 0

    def show(self, position: int, what: str) -> None:
        """We are at `position`; at most a few times a second."""
        if not self._on or (now := time.monotonic()) - self._shown < _EVERY_S:
            return
        self._shown = now
        done = min(1.0, (position - self._first) / self._span)
        bar = "#" * int(done * _WIDTH)
        text = f"[{bar:<{_WIDTH}}] {100 * done:3.0f} %  {what}  {now - self._begun:.0f} s"
        sys.stderr.write(f"\r{text:<{self._length}}")
        sys.stderr.flush()
        self._length = len(text)

    def clear(self) -> None:
        """Leave the line empty for what comes."""
        if self._length:
            sys.stderr.write(f"\r{'':<{self._length}}\r")
            self._length = 0
