"""Back-off with full jitter: a thousand gateways must not come back in step."""

from __future__ import annotations

import math
import random


class Backoff:
    """Delays between attempts: uniform between 0 and a ceiling that doubles from `first_s` to `most_s`."""

    def __init__(self, draw: random.Random | None = None, *, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._ceiling_s = first_s
        self._draw = draw or random.Random()

    def next_s(self, most_s: float = math.inf) -> float:
        """Seconds to wait before the next attempt, at most `most_s`.

        At least a tenth of the ceiling, so that no attempt is immediate.
        """
        ceiling = min(self._ceiling_s, most_s)
        self._ceiling_s = min(self._most_s, self._ceiling_s * 2)
        return max(ceiling / 10, self._draw.uniform(0, ceiling))

    def reset(self) -> None:
        """Start over: the link worked."""
        self._ceiling_s = self._first_s
