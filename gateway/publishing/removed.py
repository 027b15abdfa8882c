"""Destinations that were taken out of the config: their account ends, and the log keeps nothing for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Protocol

from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.ledger import Ledger
from gateway.rfc3339 import rfc3339

_PREFIX = "destination/"

logger = logging.getLogger(__name__)


class State(Protocol):
    """Small documents with compare-and-set."""

    def items(self, prefix: str) -> Iterator[tuple[str, int, Any]]:
        """Key, version and document of every key that begins with `prefix`."""
        ...

    def put(self, key: str, value: Any, expected_version: int) -> int:
        """Replace a document that still has this version."""
        ...


def end_accounts(state: State, configured: Collection[str], now: int) -> None:
    """Write the last line of every account whose destination is gone, once, and mark it as ended. Raises LogError.

    The books stay: a destination that comes back under the same name goes on where it ended, and what has left the log
    meanwhile is counted as dropped (`trimmed`). `now` in ns since the epoch.
    """
    for key, version, saved in list(state.items(_PREFIX)):
        name = key.removeprefix(_PREFIX)
        if name in configured or "ended" in saved:
            continue
        state.put(key, saved | {"ended": rfc3339(now)}, version)
        logger.warning(
            "destination %s: no longer configured, its account ends: %s; the log keeps nothing for it any more",
            name,
            _totals(saved),
        )


def _totals(saved: dict[str, Any]) -> str:
    ledger = Ledger.from_state(saved, Clearance(Rule.from_state(saved["clearance"]["rule"])))
    accounts = ledger.accounts.values()
    dropped: Counter[str] = sum((account.dropped for account in accounts), Counter())
    counted = {
        "accepted": sum(account.accepted for account in accounts),
        "delivered": sum(account.delivered for account in accounts),
        "never delivered": sum(account.difference for account in accounts),  # what waits is counted at a start alone
        "parked": sum(account.parked for account in accounts),
        "withheld": sum(account.withheld for account in accounts),
        "dropped": dropped.total(),
    }
    return ", ".join(f"{words} {count}" for words, count in counted.items())
