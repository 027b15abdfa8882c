"""Whether a device may be asked: open, unless somebody or something holds it shut, each with a reason of its own."""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Held(NamedTuple):
    """Why a device is not asked."""

    reason: str
    """the gap's, a short word: "paused", "log-full" """
    text: str
    """for people"""


class Gate:
    """Several may hold it; it opens when the last lets go."""

    def __init__(self) -> None:
        self._holding: dict[str, Held] = {}
        self.shut = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.quiet = asyncio.Event()
        """the device is not asked any more, and its connections are closed"""

    @property
    def held(self) -> Held | None:
        """Who has held it longest; None while it is open."""
        return next(iter(self._holding.values()), None)

    def hold(self, held: Held) -> None:
        """Shut it, or keep it shut, for this reason."""
        self._holding[held.reason] = held
        self.open.clear()
        self.shut.set()

    def release(self, reason: str) -> None:
        """This reason is over, if it was one."""
        self._holding.pop(reason, None)
        if not self._holding:
            self.shut.clear()
            self.quiet.clear()
            self.open.set()
