"""Durations and sizes back into the words that an engineer writes."""

from __future__ import annotations

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration_text(seconds: float) -> str:
    """15552000 as 180d, 0.5 as 500ms: the largest unit that divides it."""
    for factor, unit in _UNITS:
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    number, unit = (seconds, "s") if seconds > 1 else (seconds * 1000, "ms")
    return f"{number:.3f}".rstrip("0").rstrip(".") + unit


def days_text(days: float) -> str:
    """6430.4 as 6,430 days, 3.14 as 3.1 days."""
    return f"{days:,.0f} days" if days >= 10 else f"{days:.1f} days"


def size_text(size: int) -> str:
    """20000000000 as 20GB, by powers of ten."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "KB")):
        if size >= 10**power:
            return f"{size / 10**power:.3g}{unit}"
    return f"{size}B"
