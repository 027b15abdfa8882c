"""Which streams a destination is entitled to, and from which position on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.log.records import Labels, StreamRecord
from gateway.publishing.config import DestinationConfig


class Rule(NamedTuple):
    """What a destination may see; None = any."""

    max_grade: int
    classes: frozenset[str] | None = None
    domains: frozenset[str] | None = None

    def entitles(self, labels: Labels) -> bool:
        """Whether streams with these labels may leave."""
        return (
            labels.grade <= self.max_grade
            and (self.classes is None or labels.data_class in self.classes)
            and (self.domains is None or labels.domain in self.domains)
        )

    def to_state(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "max_grade": self.max_grade,
            "classes": None if self.classes is None else sorted(self.classes),
            "domains": None if self.domains is None else sorted(self.domains),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Rule:
        """What `to_state` gave."""
        classes, domains = state["classes"], state["domains"]
        return cls(
            state["max_grade"],
            None if classes is None else frozenset(classes),
            None if domains is None else frozenset(domains),
        )


def rule_of(config: DestinationConfig) -> Rule:
    """What a destination may see by its config."""
    return Rule(
        config.max_grade,
        None if config.classes is None else frozenset(config.classes),
        None if config.domains is None else frozenset(config.domains),
    )


class Clearance:
    """Per stream the position from which it is open to the destination; None = closed.

    A stream that a relaxed rule opens is open from the log's end at that moment: what was accepted before stays
    withheld. A stream that a stricter rule closes withholds its backlog too.
    """

    def __init__(self, rule: Rule, former: Rule | None = None, opened: dict[str, int | None] | None = None) -> None:
        """`former` and `opened` are the rule and the streams as saved; None at a destination's first start."""
        self._rule = rule
        self._former = former or rule
        self._opened: dict[str, int | None] = dict(opened or {})

    def apply(self, streams: Iterable[StreamRecord], log_end: int) -> None:
        """Put the rule in force for streams that existed before it."""
        for record in streams:
            before = 0 if self._former.entitles(record.labels) else None
            opened = self._opened.get(record.stream, before)
            if not self._rule.entitles(record.labels):
                opened = None
            elif opened is None:
                opened = log_end
            self._opened[record.stream] = opened
        self._former = self._rule

    def learn(self, record: StreamRecord) -> None:
        """A stream that begins under the rule in force."""
        self._opened.setdefault(record.stream, 0 if self._rule.entitles(record.labels) else None)

    def allows(self, stream: str, position: int) -> bool:
        """Whether what lies at `position` may be sent. A stream that the log never announced may not."""
        opened = self._opened.get(stream)
        return opened is not None and position >= opened

    def since(self, stream: str) -> int | None:
        """The position from which on the stream may be sent; None = none of it may."""
        return self._opened.get(stream)

    def sees(self, stream: str) -> bool:
        """Whether the stream is open from some position on: its catalogue may be shown."""
        return self._opened.get(stream) is not None

    def to_state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"rule": self._rule.to_state(), "opened": dict(self._opened)}

    @classmethod
    def from_state(cls, rule: Rule, state: dict[str, Any] | None) -> Clearance:
        """With what `to_state` gave, or None at the first start."""
        if state is None:
            return cls(rule)
        return cls(rule, Rule.from_state(state["rule"]), state["opened"])
