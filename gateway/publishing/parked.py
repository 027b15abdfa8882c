"""Readings that the broker refused for good: entries in the state store, under "parked/<destination>/...".

`edge-gateway log parked --resend` marks entries (key `resend`) with compare-and-set, whether the gateway runs or not;
the running publisher, or the next one, sends exactly these readings again in lane replay. An entry goes in the same
write that moves its count in the account, so a crash costs duplicates and never a wrong account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.log.errors import StateConflictError
from gateway.log.records import Series
from gateway.publishing.sources import State

_ATTEMPTS = 5


class Marked(NamedTuple):
    """An entry that is to be sent again."""

    key: str
    entry: dict[str, Any]

    @property
    def series(self) -> Series:
        """Whose readings they are."""
        return Series(self.entry["stream"], self.entry["device"])

    @property
    def n(self) -> int:
        """Offset of the first."""
        return int(self.entry["n"])

    @property
    def end(self) -> int:
        """Offset after the last."""
        return self.n + int(self.entry["count"])

    @property
    def first(self) -> int:
        """Position of the first segment that may hold some of it."""
        return int(self.entry["positions"][0])

    @property
    def last(self) -> int:
        """Position of the last one."""
        return int(self.entry["positions"][1])


def prefix(destination: str) -> str:
    """What the keys of a destination's entries begin with."""
    return f"parked/{destination}/"


def entry(
    series: Series, n: int, count: int, positions: tuple[int, int], reason: str, topic: str, time: int
) -> dict[str, Any]:
    """One entry, JSON-able; `positions` are those of the first and the last segment, `time` in ns."""
    return {
        "stream": series.stream,
        "device": series.device,
        "n": n,
        "count": count,
        "positions": list(positions),
        "reason": reason,
        "topic": topic,
        "time": time,
    }


def _goes_on(last: dict[str, Any], new: dict[str, Any]) -> bool:
    same = all(last[key] == new[key] for key in ("stream", "device", "reason", "topic"))
    return same and "resend" not in last and bool(last["n"] + last["count"] == new["n"])


class Parking:
    """Changes to one destination's entries that are not saved yet."""

    def __init__(self, destination: str) -> None:
        self._prefix = prefix(destination)
        self._changes: dict[str, dict[str, Any] | None] = {}

    def add(self, new: dict[str, Any]) -> None:
        """Remember an entry; neighbours with the same reason become one."""
        last = next(reversed(self._changes.values()), None)
        if last is not None and _goes_on(last, new):
            last["count"] += new["count"]
            last["positions"][1] = new["positions"][1]
            return
        self._changes[self._key(new)] = new

    def _key(self, one: dict[str, Any]) -> str:
        return f"{self._prefix}{one['stream']}/{one['device']}/{one['n']}"

    def replace(self, key: str, pieces: Sequence[dict[str, Any]], marked: Marked, at: int) -> str:
        """Of the entry `key` everything below offset `at` was sent again: `pieces` of that were refused, the rest stays
        marked. Returns the rest's key.
        """
        self._changes[key] = None
        for piece in pieces:
            self.add(piece)
        if at >= marked.end:
            return key
        rest = marked.entry | {"n": at, "count": marked.end - at}
        key = self._key(rest)
        self._changes[key] = rest
        return key

    def give_up(self, marked: Marked, reason: str, time: int) -> None:
        """The entry cannot be sent again, and is no longer marked."""
        kept = {name: value for name, value in marked.entry.items() if name != "resend"}
        self._changes[marked.key] = kept | {"reason": reason, "time": time}

    def take(self) -> dict[str, dict[str, Any] | None]:
        """The changes, to be saved."""
        changes, self._changes = self._changes, {}
        return changes

    def give_back(self, changes: dict[str, dict[str, Any] | None]) -> None:
        """They could not be saved."""
        self._changes = changes | self._changes

    def marked(self, state: State) -> list[Marked]:
        """Entries that somebody marked and that are not done with. Blocks."""
        return [
            Marked(key, one)
            for key, _, one in list(state.items(self._prefix))
            if "resend" in one and key not in self._changes
        ]

    def spans(self, state: State) -> dict[Series, list[tuple[int, int]]]:
        """Offsets first <= n < end of everything that is parked, per series. Blocks."""
        entries = {key: one for key, _, one in state.items(self._prefix)} | self._changes
        found: defaultdict[Series, list[tuple[int, int]]] = defaultdict(list)
        for one in entries.values():
            if one is not None:
                found[Series(one["stream"], one["device"])].append((one["n"], one["n"] + one["count"]))
        return dict(found)


def save(state: State, changes: dict[str, dict[str, Any] | None], books: tuple[str, dict[str, Any], int]) -> int:
    """Write entries and the destination's books at once; returns the books' version. Blocks. Raises LogError."""
    for attempt in range(_ATTEMPTS):
        found = {key: state.get(key) for key in changes}
        puts = [(key, value, 0 if (was := found[key]) is None else was[0]) for key, value in changes.items()]
        try:
            return state.put_many([*puts, books])[-1]
        except StateConflictError:  # the command marked an entry in between
            if attempt == _ATTEMPTS - 1 or not changes:
                raise
    raise AssertionError("unreachable")
