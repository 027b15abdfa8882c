"""Counting of cycles at the device: exact on a grid, however late each request comes."""

from __future__ import annotations

import random

from benchmarks.load.cadence import Cadence, missed


def test_what_is_late_is_not_missed() -> None:
    rng = random.Random(3)
    cadence = Cadence()
    for cycle in range(100):
        cadence.asked((0, 0), cycle + 0.9 * rng.random())
    assert cadence.account(1.0, 100.0) == {"cycles": 100, "missed": 0, "blocks": 1}


def test_cycles_left_out_are_counted_by_block() -> None:
    rng = random.Random(4)
    cadence, left_out = Cadence(), 0
    for cycle in range(200):
        for key in ((0, 0), (0, 124), (7, 0)):
            if 0 < cycle < 199 and rng.random() < 0.1:
                left_out += 1
            else:
                cadence.asked(key, 0.1 * (cycle + 0.4 * rng.random()))
    assert left_out > 20
    assert cadence.account(0.1, 20.0) == {"cycles": 600 - left_out, "missed": left_out, "blocks": 3}


def test_a_restart_forgets_the_past_but_not_the_blocks() -> None:
    cadence = Cadence()
    cadence.asked((0, 0), 0.0)
    cadence.asked((1, 0), 0.0)
    cadence.asked((0, 0), 5.0)
    cadence.restart(10.0)
    for second in range(11, 15):
        cadence.asked((0, 0), second)
    assert cadence.account(1.0, 15.0) == {"cycles": 4, "missed": 5, "blocks": 2}


def test_the_ends_of_the_window() -> None:
    assert missed((10.9, 19.1, 9), 1.0, 10.0, 20.0) == 0
    assert missed((10.9, 15.9, 6), 1.0, 10.0, 20.0) == 3
    assert missed((14.1, 19.1, 6), 1.0, 10.0, 20.0) == 3
    assert missed((0.0, 0.0, 0), 1.0, 10.0, 20.0) == 10
