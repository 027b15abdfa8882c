"""The slow broker's pace."""

from __future__ import annotations

import pytest

from benchmarks.load.slow_broker import Pace


def test_messages_wait_for_one_another_and_a_pause_saves_nothing_up() -> None:
    pace = Pace(1000)
    assert pace.due(500, 10.0) == pytest.approx(10.5)
    assert pace.due(100, 10.0) == pytest.approx(10.6)
    assert pace.due(100, 10.65) == pytest.approx(10.75)
    assert pace.due(1000, 60.0) == pytest.approx(61.0)
