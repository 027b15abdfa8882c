"""How long the log will last, told from a log that was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.log.forecast import rate_of_points, recent_rate
from tests.support.logs import T0, SetClock, open_log, reading, segment

DAY = 86_400


def written(folder: Path, seconds: float, *, commits: int = 40, clock: SetClock | None = None) -> int:
    """A log that was written for so long; how many bytes it takes."""
    clock = clock or SetClock()
    store, _ = open_log(folder, clock)
    for k in range(commits):
        clock.advance(seconds / commits)
        store.append([segment(reading(10 * k))], k + 1)
    used = sum(file.bytes for file in store.files())
    store.close()
    return used


def test_the_rate_is_that_of_the_log(tmp_path: Path) -> None:
    written(tmp_path / "log", 2 * DAY)
    found = recent_rate(tmp_path / "log")
    assert found is not None
    assert found.bytes_per_day == pytest.approx(found.used / 2)
    assert found.days(10 * found.used) == pytest.approx(20)


def test_only_the_last_week_counts(tmp_path: Path) -> None:
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock)
    for day in range(30):
        for k in range(1 if day < 20 else 100):
            store.append([segment(reading(0, stream=f"s{day}-{k}"))], store.bounds().end)
        clock.advance(DAY)
    busy = sum(file.bytes for file in store.files()[-8:])
    found = recent_rate(tmp_path / "log")  # beside the writer
    assert found is not None
    assert found.bytes_per_day == pytest.approx(busy / 7, rel=0.2)
    store.close()


def test_an_hour_at_least(tmp_path: Path) -> None:
    assert recent_rate(tmp_path / "none") is None
    written(tmp_path / "log", 3000)
    assert recent_rate(tmp_path / "log") is None


def test_a_stepped_clock_gives_no_rate_rather_than_nonsense(tmp_path: Path) -> None:
    clock = SetClock()
    written(tmp_path / "log", 2 * DAY, clock=clock)
    clock.now_ns = T0 - 100 * DAY * 10**9
    store, _ = open_log(tmp_path / "log", clock)
    store.append([segment(reading(400))], store.bounds().end)
    store.close()
    assert recent_rate(tmp_path / "log") is None


def test_a_plant_that_has_not_run() -> None:
    assert rate_of_points(1000, "ssd").bytes_per_day == pytest.approx(345.6e6)
    assert rate_of_points(1000, "emmc").bytes_per_day > rate_of_points(1000, "ssd").bytes_per_day
