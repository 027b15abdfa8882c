"""`check` says how long the log will hold, and warns when `keep` asks for more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.commands.main import main
from tests.support.logs import SetClock, open_log, reading, segment
from tests.unit.config.plant import GATEWAY, write


def written(folder: Path) -> int:
    """Two days of a log; bytes that it takes."""
    clock = SetClock()
    store, _ = open_log(folder, clock)
    for k in range(40):
        clock.advance(2 * 86_400 / 40)
        store.append([segment(reading(10 * k))], k + 1)
    used = sum(file.bytes for file in store.files())
    store.close()
    return used


def summary(capsys: pytest.CaptureFixture[str], config: Path) -> dict[str, object]:
    capsys.readouterr()
    assert main(["check", str(config), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_before_it_has_run_points_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path)
    assert main(["check", str(config)]) == 0
    assert "if each point gave a reading a second" in capsys.readouterr().out
    assert summary(capsys, config)["summary"]["log"]["rate"] == "assumed"  # type: ignore[index]


def test_once_it_has_run_its_rate_counts_and_keep_is_held_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, GATEWAY.replace("log: {path: log}", "log: {path: log, budget: 100MB, keep: 180000d}"))
    written(config / "log")
    found = summary(capsys, config)
    log = found["summary"]["log"]  # type: ignore[index]
    assert log["rate"] == "measured"
    assert log["days"] == pytest.approx(100e6 / log["bytes_per_day"], abs=0.1)
    (said,) = [one for one in found["problems"] if "cannot be met" in one["message"]]  # type: ignore[attr-defined]
    assert said["severity"] == "warning"
    assert "log.keep" in said["message"]
    config = write(tmp_path, GATEWAY.replace("log: {path: log}", "log: {path: log, budget: 100MB, keep: 30d}"))
    assert not [one for one in summary(capsys, config)["problems"] if "cannot be met" in one["message"]]  # type: ignore[attr-defined]
