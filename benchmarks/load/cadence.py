"""How regularly a device was asked, as the device saw it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Key = tuple[int, int]
"""(device, first register): one request of each of its cycles"""


class Cadence:
    """Counts what was asked, and what was left out, since `restart`. Whatever was ever asked is expected for ever."""

    def __init__(self) -> None:
        self._asked: dict[Key, list[float]] = {}
        """first and last time since the restart, in seconds, and how often"""
        self._since = 0.0

    def asked(self, key: Key, now: float) -> None:
        """A block was asked for at `now` (s, monotonic)."""
        found = self._asked.get(key)
        if found is None:
            self._asked[key] = [now, now, 1]
        elif found[2]:
            found[1] = now
            found[2] += 1
        else:
            found[:] = now, now, 1

    def restart(self, now: float) -> None:
        """Count anew from `now` on."""
        self._since = now
        for found in self._asked.values():
            found[2] = 0

    def account(self, period_s: float, now: float) -> dict[str, Any]:
        """Cycles of blocks until `now`: how many there were, how many were missed, and how many blocks there are."""
        return {
            "cycles": sum(int(found[2]) for found in self._asked.values()),
            "missed": sum(missed(found, period_s, self._since, now) for found in self._asked.values()),
            "blocks": len(self._asked),
        }


def missed(asked: Iterable[float], period_s: float, since: float, now: float) -> int:
    """Cycles of one block that were left out between `since` and `now`.

    From the first to the last request the count is exact, however late each came: the gateway keeps to a fixed grid.
    Before and after, only a pause that is more than half a period too long says that one was missed.
    """
    first, last, count = asked
    if not count:
        return int((now - since) / period_s)
    inside = round((last - first) / period_s) + 1 - int(count)
    before = max(0, int((first - since) / period_s - 0.5))
    after = max(0, int((now - last) / period_s - 0.5))
    return max(0, inside) + before + after
