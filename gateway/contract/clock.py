"""Time comes from an injected clock, so that tests decide what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time, in ns."""

    def time_ns(self) -> int:
        """ns since the Unix epoch, UTC; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """ns since an unspecified moment of this boot; never jumps back."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def time_ns(self) -> int:
        """See `Clock.time_ns`."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See `Clock.monotonic_ns`."""
        return time.monotonic_ns()
