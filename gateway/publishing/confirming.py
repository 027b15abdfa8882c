"""Confirmation by the centre: what it says is stored, and what to send again because it says nothing. Pure.

An answer names offsets, and offsets are never used twice: so it counts for whatever message waits with them, however
late it comes, on whichever connection, and one answer may be for many messages. The correlation data are needed only
for an answer that names none. docs/schemas/confirm-1.schema.json says what an answer is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from gateway.contract import Clock
from gateway.log.records import Series
from gateway.publishing.documents import Origin

M = TypeVar("M")

MOST_PATIENCE_NS = 600_000_000_000
_REASON = re.compile(r"[a-z0-9_.-]{1,48}")
_NO_REASON = "no-reason"


class Part(NamedTuple):
    """Offsets first <= n < end that the centre has stored, or will never take."""

    first: int
    end: int
    reason: str | None = None
    """why it will never take them; None = stored"""


class Answer(NamedTuple):
    """What a centre says."""

    parts: tuple[tuple[Series, Part], ...]
    whole: str | None
    """why it will never take the message that it answers, of which it could read no offset"""


@dataclass(eq=False, slots=True)
class Waiting(Generic[M]):
    """A message that the centre has not answered for in full."""

    message: M
    series: Series
    left: list[tuple[int, int]]
    """offsets first <= n < end without an answer"""
    correlation: bytes
    first_ns: int
    """when it was first sent, monotonic"""
    sent_ns: int
    """when it was last sent, monotonic"""
    taken: bool = False
    """the broker acknowledged it since it was last sent"""
    passed_over: int = 0
    """how often it was found overdue although the centre had answered for others"""
    refused: list[Part] = field(default_factory=list)


class Confirmations(Generic[M]):
    """The messages of one attempt that wait for their answers."""

    def __init__(self, origin: Origin, timeout_s: float, clock: Clock) -> None:
        self._origin = origin
        self._clock = clock
        self._timeout_ns = round(timeout_s * 1e9)
        self._patience_ns = self._timeout_ns
        """how long an answer may take: the configured time, or twice what the last ones took"""
        self._pause_ns = self._timeout_ns
        """between two messages that are sent again while the centre is silent"""
        self._session = secrets.token_bytes(8)
        self._count = 0
        self._waiting: dict[bytes, Waiting[M]] = {}
        self._by_series: dict[Series, dict[bytes, Waiting[M]]] = {}
        self._heard_ns = clock.monotonic_ns()
        self._asked_ns = self._heard_ns
        self.silent = False
        """what was sent again was not answered either"""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting[M]]:
        return iter(tuple(self._waiting.values()))

    def expect(self, message: M, series: Series, first: int, end: int) -> Waiting[M]:
        """A message with offsets first <= n < end is about to be sent, with the `correlation` that is given here."""
        now = self._clock.monotonic_ns()
        self._count += 1
        correlation = self._session + self._count.to_bytes(8, "big")
        waiting = Waiting(message, series, [(first, end)], correlation, now, now)
        self._waiting[correlation] = waiting
        self._by_series.setdefault(series, {})[correlation] = waiting
        return waiting

    def sent_again(self, waiting: Waiting[M]) -> None:
        """It is on its way once more."""
        waiting.sent_ns = self._asked_ns = self._clock.monotonic_ns()
        waiting.taken = False

    def forget(self, waiting: Waiting[M]) -> None:
        """No answer is waited for any more."""
        self._waiting.pop(waiting.correlation, None)
        known = self._by_series.get(waiting.series, {})
        known.pop(waiting.correlation, None)
        if not known:
            self._by_series.pop(waiting.series, None)

    def answered(self, payload: bytes, correlation: bytes) -> list[Waiting[M]] | None:
        """What an answer completes, in the order of sending; None when it concerns nothing that waits."""
        answer = parse(payload, self._origin)
        if answer is None:
            return None
        touched: dict[bytes, Waiting[M]] = {}
        for series, part in answer.parts:
            for waiting in self._by_series.get(series, {}).values():
                if _take(waiting, part):
                    touched[waiting.correlation] = waiting
        asked = None if answer.whole is None else self._waiting.get(correlation)
        if asked is not None:
            for first, end in tuple(asked.left):
                _take(asked, Part(first, end, answer.whole))
            touched[correlation] = asked
        if not touched:
            return None
        now = self._clock.monotonic_ns()
        done = sorted((one for one in touched.values() if not one.left), key=lambda one: one.correlation)
        if done and not self.silent:  # the end of a silence says nothing about how long answers take
            took = now - done[-1].first_ns
            self._patience_ns = min(max(self._timeout_ns, 2 * took), MOST_PATIENCE_NS)
        self._heard_ns, self._pause_ns, self.silent = now, self._timeout_ns, False
        return done

    def overdue(self) -> list[Waiting[M]]:
        """What is to be sent again now.

        While the centre answers for others, everything that was not answered in time. While it is silent, one message
        alone, and less and less often: a centre that is away is not to come back to a flood. Each in turn: there may be
        one that it never answers.
        """
        now = self._clock.monotonic_ns()
        late = [one for one in self._waiting.values() if one.taken and now - one.sent_ns >= self._patience_ns]
        passed_over = [one for one in late if self._heard_ns > one.sent_ns]
        for one in passed_over:
            one.passed_over += 1
        if passed_over or not late:
            return passed_over
        if now - self._asked_ns < self._pause_ns and self.silent:
            return []
        if self.silent:
            self._pause_ns = min(2 * self._pause_ns, MOST_PATIENCE_NS)
        self.silent = True
        return [min(late, key=lambda one: one.sent_ns)]


def parse(payload: bytes, origin: Origin) -> Answer | None:
    """A confirm/1 message; None when it is something else, or meant for another gateway."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or document.get("schema") != "confirm/1":
        return None
    stored, refused = _entries(document.get("stored")), _entries(document.get("refused"))
    whose = document.get("enterprise"), document.get("gateway")
    unread = whose == (None, None) and not stored and all("n" not in entry for entry in refused)
    if whose != origin and not unread:  # what could not be read does not say whose it is: the correlation does
        return None
    parts = [(series, Part(first, end)) for entry in stored for series, first, end in _range(entry)]
    parts += [(series, Part(first, end, _reason(entry))) for entry in refused for series, first, end in _range(entry)]
    whole = next((_reason(entry) for entry in refused if "n" not in entry), None)
    return Answer(tuple(parts), whole)


def _entries(found: Any) -> list[dict[str, Any]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _range(entry: dict[str, Any]) -> Iterable[tuple[Series, int, int]]:
    match entry:
        case {"stream": str(stream), "device": str(device), "n": int(n), "count": int(count)} if n >= 0 < count:
            return [(Series(stream, device), n, n + count)]
    return []


def _reason(entry: dict[str, Any]) -> str:
    """In one word; what a centre says else would become keys and log lines."""
    reason = entry.get("reason")
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else _NO_REASON


def _take(waiting: Waiting[Any], part: Part) -> bool:
    """Take the part out of what is left; False when it has nothing to do with it."""
    left: list[tuple[int, int]] = []
    touched = False
    for first, end in waiting.left:
        low, high = max(first, part.first), min(end, part.end)
        if low >= high:
            left.append((first, end))
            continue
        touched = True
        if part.reason is not None:
            waiting.refused.append(Part(low, high, part.reason))
        left += [one for one in ((first, low), (high, end)) if one[0] < one[1]]
    waiting.left = left
    return touched
