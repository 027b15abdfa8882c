"""Asking every point of a device once, before the gateway runs: which answer, and why the others do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gateway.contract.adapter import AdapterType


class Failing(NamedTuple):
    """A point that does not answer, or not as the device file says."""

    point: int
    """its place in the config's `points`"""
    where: str
    """its address, as a device file writes it"""
    reason: str


class Trial(NamedTuple):
    """What came of asking one device."""

    failing: tuple[Failing, ...]
    requests: int
    """how many requests for points it took, connecting not counted"""
    problem: str | None = None
    """why the device as a whole was not reached; None = it answered"""


TryOut = Callable[[Any], Awaitable[Trial]]
"""Asks each point of a checked device config once, within the device's load budget; only reads.

Raises AdapterError when the device is not reached, ConfigError when the config cannot work here.
"""


@runtime_checkable
class HasTrial(AdapterType, Protocol):
    """Adapter types that can ask every point once."""

    def trial(self) -> TryOut:
        """What asks; the protocol library is imported here, so that no device waits for that."""
        ...
