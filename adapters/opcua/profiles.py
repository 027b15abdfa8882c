"""What is known of makes of OPC UA servers: limits and ways, as data in profiles.toml.

A profile bounds what is asked of a server where the server itself does not say, or says too much. What a server says
of itself and what the device file says under `load` both count as well; the strictest holds (`limits`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Final

DEFAULT: Final = "default"
_CAUTION: Final = ("requests_per_s", "items_per_call", "nodes_per_read")
"""what a make of which nothing is known has from the default"""


@dataclass(frozen=True, slots=True)
class Profile:
    """One make of server. None = no bound of its own. Intervals are seconds."""

    name: str
    description: str
    source: str
    """where the numbers come from, and how sure they are"""
    requests_per_s: float | None = None
    """requests of any kind, Publish included"""
    items: int | None = None
    """monitored items of one client"""
    items_per_subscription: int | None = None
    items_per_call: int | None = None
    nodes_per_read: int | None = None
    nodes_per_browse: int | None = None
    nodes_per_history: int | None = None
    subscriptions: int | None = None
    """subscriptions of one session"""
    min_sampling: float | None = None
    min_publishing: float | None = None
    queue: int | None = None
    """samples that the server keeps per monitored item"""
    ramp: float = 0.0
    """over how many seconds the making of items is spread"""
    transfer: bool = True
    """whether TransferSubscriptions is worth trying"""
    cautious: frozenset[str] = frozenset()
    """bounds that are the default's caution and no knowledge of this make; `load` may go beyond them"""


def _load() -> dict[str, Profile]:
    text = resources.files(__package__).joinpath("profiles.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    caution = {key: tables[DEFAULT][key] for key in _CAUTION}
    return {
        name: Profile(
            name,
            **{**caution, **keys},
            cautious=frozenset(key for key in _CAUTION if name == DEFAULT or key not in keys),
        )
        for name, keys in tables.items()
    }


PROFILES: Final = _load()
