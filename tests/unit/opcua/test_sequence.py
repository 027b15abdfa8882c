"""Sequence numbers: gaps, repetitions, keep-alives, the wrap."""

from __future__ import annotations

from adapters.opcua.acquiring.sequence import SequenceWatch, following, precedes, preceding

LAST = 2**32 - 1


def watch(sequence: int, keep_alive: bool = False) -> SequenceWatch:
    made = SequenceWatch()
    assert made.missing(sequence, 10) == ([], False)
    made.advance(sequence, keep_alive)
    return made


def test_the_next_number_is_no_gap() -> None:
    assert watch(7).missing(8, 10) == ([], False)


def test_a_keep_alive_uses_up_no_number() -> None:
    assert watch(7, keep_alive=True).missing(7, 10) == ([], False)


def test_a_keep_alive_without_a_number_says_nothing() -> None:
    first = watch(0, keep_alive=True)
    assert first.missing(1, 10) == ([], False)
    later = watch(7)
    assert later.missing(0, 10) is None
    later.advance(0, True)
    assert later.missing(8, 10) == ([], False)


def test_missing_numbers() -> None:
    assert watch(7).missing(10, 10) == ([8, 9], False)
    assert watch(7).missing(100, 3) == ([97, 98, 99], True)


def test_a_repetition() -> None:
    assert watch(7).missing(7, 10) is None
    assert watch(7).missing(3, 10) is None


def test_after_the_last_number_comes_one() -> None:
    assert watch(LAST).missing(1, 10) == ([], False)
    assert watch(LAST - 1).missing(2, 10) == ([LAST, 1], False)
    assert watch(1).missing(LAST, 10) is None


def test_a_number_before_and_after() -> None:
    assert (following(7), following(LAST)) == (8, 1)
    assert (preceding(7), preceding(1)) == (6, LAST)


def test_which_of_two_numbers_came_first() -> None:
    assert precedes(7, 8)
    assert not precedes(7, 7)
    assert not precedes(8, 7)
    assert precedes(LAST, 1)
    assert not precedes(1, LAST)
