"""Which messages an answer of the centre completes, and what is sent again without one; time is the test's."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from gateway.contract import SystemClock
from gateway.log.records import Series
from gateway.publishing.confirming import MOST_PATIENCE_NS, Confirmations, Part, parse
from gateway.publishing.documents import Origin

ORIGIN = Origin("E", "gw")
A, B = Series("S1", "a"), Series("S1", "b")
SECOND = 1_000_000_000


class Clock(SystemClock):
    now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Box:
    def __init__(self, timeout_s: float = 10.0) -> None:
        self.clock = Clock()
        self.waiting: Confirmations[str] = Confirmations(ORIGIN, timeout_s, self.clock)

    def send(self, name: str, series: Series, first: int, end: int) -> Any:
        one = self.waiting.expect(name, series, first, end)
        one.taken = True
        return one

    def hear(self, correlation: bytes = b"", **parts: Any) -> list[str] | None:
        document = {"schema": "confirm/1", "enterprise": "E", "gateway": "gw", **parts}
        done = self.waiting.answered(json.dumps(document).encode(), correlation)
        for one in done or ():
            self.waiting.forget(one)
        return None if done is None else [one.message for one in done]

    def overdue(self, at_s: float) -> list[str]:
        self.clock.now = round(at_s * SECOND)
        found = self.waiting.overdue()
        for one in found:
            self.waiting.sent_again(one)
            one.taken = True
        return [one.message for one in found]


def entry(series: Series, n: int, count: int, **more: Any) -> dict[str, Any]:
    return {"stream": series.stream, "device": series.device, "n": n, "count": count, **more}


def test_what_is_passed_over_is_counted_and_what_waits_in_a_silence_is_not() -> None:
    box = Box()
    one = box.send("a", A, 0, 1)
    for at in (10, 20, 40, 80):  # nothing is answered
        box.overdue(at)
    assert one.passed_over == 0
    for turn in (1, 2, 3):
        at = 80 + 20 * turn
        box.clock.now = at * SECOND
        box.send("b", B, turn, turn + 1)
        assert box.hear(stored=[entry(B, turn, 1)]) == ["b"]
        assert box.overdue(at + 11) == ["a"]
        assert one.passed_over == turn


def test_an_answer_may_be_for_a_part_or_for_many_messages() -> None:
    box = Box()
    box.send("a0", A, 0, 10)
    box.send("b0", B, 0, 10)
    box.send("a1", A, 10, 20)
    assert box.hear(stored=[entry(A, 0, 5)]) == []
    assert box.hear(stored=[entry(A, 5, 100)]) == ["a0", "a1"]
    assert box.hear(stored=[entry(A, 0, 20)]) is None, "said twice"
    assert [one.message for one in box.waiting] == ["b0"]
    assert box.hear(stored=[entry(B, 3, 4)]) == []
    assert [one.left for one in box.waiting] == [[(0, 3), (7, 10)]]


def test_a_refusal_of_a_part_stands_beside_what_is_stored() -> None:
    box = Box()
    one = box.send("a", A, 0, 10)
    assert box.hear(stored=[entry(A, 0, 4)], refused=[entry(A, 4, 6, reason="unit")]) == ["a"]
    assert one.refused == [Part(4, 10, "unit")]
    other = box.send("b", B, 0, 3)
    assert box.hear(refused=[{"reason": "json"}]) is None, "of which message?"
    assert box.hear(other.correlation, stored=[entry(B, 0, 1)], refused=[{"reason": "json"}]) == ["b"]
    assert other.refused == [Part(1, 3, "json")]


@pytest.mark.parametrize("reason", [None, 7, "", "Two words", "x" * 49, "a\nb"])
def test_a_reason_that_is_no_word_is_none(reason: Any) -> None:
    one = json.dumps({"schema": "confirm/1", "refused": [{"reason": reason}]}).encode()
    answer = parse(one, ORIGIN)
    assert answer is not None
    assert answer.whole == "no-reason"


def test_without_answers_one_alone_is_sent_again_ever_more_rarely() -> None:
    box = Box()
    for k in range(5):
        box.send(f"m{k}", A, k, k + 1)
    assert box.overdue(9.9) == []
    assert box.overdue(10.0) == ["m0"]
    assert box.waiting.silent
    sent = [at for at in range(11, 5000) if box.overdue(at)]
    assert sent[:4] == [20, 40, 80, 160]
    assert max(later - sooner for sooner, later in itertools.pairwise(sent)) == MOST_PATIENCE_NS / SECOND
    assert box.hear(stored=[entry(A, 0, 1)]) == ["m0"]
    assert box.overdue(5000) == ["m1", "m2", "m3", "m4"], "it is there again: now the others"
    assert box.overdue(5009) == []


def test_a_message_that_is_never_answered_does_not_keep_a_silence_going() -> None:
    """The centre was away and is back: whichever message it has an answer for, it is asked for that one too."""
    box = Box()
    for k in range(4):
        box.send(f"m{k}", A, k, k + 1)
    tried = [name for at in range(10, 300) for name in box.overdue(at)]
    assert tried == ["m0", "m1", "m2", "m3", "m0"]


def test_what_is_lost_beside_others_that_are_answered_is_sent_again_in_time() -> None:
    box = Box()
    box.send("lost", A, 0, 1)
    box.clock.now = 5 * SECOND
    box.send("later", A, 1, 2)
    assert box.hear(stored=[entry(A, 1, 1)]) == ["later"]
    assert box.overdue(9) == []
    assert box.overdue(10) == ["lost"]
    assert not box.waiting.silent


def test_a_centre_that_is_always_slow_does_not_get_everything_twice() -> None:
    """40 s for an answer, 10 s of patience: the first messages come twice, later ones do not."""
    box = Box()
    twice: set[str] = set()
    sent: dict[int, int] = {}
    for at in range(400):
        box.clock.now = at * SECOND
        box.send(f"{at}", A, at, at + 1)
        sent[at] = at
        if at >= 40:
            box.hear(stored=[entry(A, at - 40, 1)])
        twice.update(box.overdue(at))
    assert len(twice) < 80
    assert all(int(name) < 80 for name in twice)


def test_what_the_broker_has_not_taken_is_not_overdue() -> None:
    box = Box()
    box.waiting.expect("m", A, 0, 1)
    assert box.overdue(1000) == []
