"""Streams open and close with the rule; nothing accepted under a stricter rule is ever released."""

from __future__ import annotations

from gateway.log.records import Labels, StreamRecord
from gateway.publishing.clearance import Clearance, Rule

LOW = StreamRecord("low", Labels("production", 1, "general"), 0)
HIGH = StreamRecord("high", Labels("research", 3, "important"), 0)


def restarted(clearance: Clearance, rule: Rule, log_end: int, streams: tuple[StreamRecord, ...]) -> Clearance:
    again = Clearance.from_state(rule, clearance.to_state())
    again.apply(streams, log_end)
    return again


def test_rule() -> None:
    assert Rule(1).entitles(LOW.labels)
    assert not Rule(2).entitles(HIGH.labels)
    assert not Rule(3, classes=frozenset({"general"})).entitles(HIGH.labels)
    assert not Rule(3, domains=frozenset({"production"})).entitles(HIGH.labels)
    rule = Rule(3, frozenset({"important"}), frozenset({"research"}))
    assert rule.entitles(HIGH.labels)
    assert Rule.from_state(rule.to_state()) == rule


def test_a_first_start_opens_streams_from_their_beginning() -> None:
    clearance = Clearance(Rule(1))
    clearance.apply([LOW, HIGH], 50)
    assert clearance.allows("low", 0)
    assert not clearance.allows("high", 99)
    assert not clearance.allows("never announced", 99)
    assert clearance.sees("low")
    assert not clearance.sees("high")


def test_a_relaxed_rule_opens_from_now_on_and_a_stricter_one_closes_the_backlog_too() -> None:
    clearance = Clearance(Rule(1))
    clearance.apply([LOW, HIGH], 0)
    clearance = restarted(clearance, Rule(3), 50, (LOW, HIGH))
    assert not clearance.allows("high", 49)
    assert clearance.allows("high", 50)
    assert clearance.allows("low", 0)
    clearance = restarted(clearance, Rule(1), 60, (LOW, HIGH))
    assert not clearance.allows("high", 55)
    clearance = restarted(clearance, Rule(3), 70, (LOW, HIGH))
    assert not clearance.allows("high", 55)
    assert clearance.allows("high", 70)


def test_a_stream_that_began_while_the_former_rule_held_is_judged_by_it() -> None:
    clearance = Clearance(Rule(1))
    clearance = restarted(clearance, Rule(3), 50, (HIGH,))
    assert not clearance.allows("high", 49)
    assert clearance.allows("high", 50)


def test_a_stream_that_begins_now() -> None:
    clearance = Clearance(Rule(1))
    clearance.learn(LOW)
    clearance.learn(HIGH)
    assert clearance.allows("low", 0)
    assert not clearance.allows("high", 0)
