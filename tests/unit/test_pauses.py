"""Pauses: kept durably, and what cannot be read is taken for a pause of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.runtime import pauses as module
from gateway.runtime.gate import Gate, Held
from gateway.runtime.pauses import FILE_NAME, Pauses
from tests.support.logs import SetClock


async def test_a_pause_is_there_after_a_restart_with_who_and_since_when(tmp_path: Path) -> None:
    first = Pauses(tmp_path, SetClock())
    await first.pause(["boiler-1", "meter-2"], "engineer")
    again = Pauses(tmp_path, SetClock())
    pause = again.of("boiler-1")
    assert pause is not None
    assert pause.by == "engineer"
    assert f"paused by engineer since {pause.since}" in pause.held.text
    assert again.of("boiler-3") is None
    await again.resume(["boiler-1"], "engineer", ["boiler-1", "meter-2", "boiler-3"])
    last = Pauses(tmp_path, SetClock())
    assert last.of("boiler-1") is None
    assert last.of("meter-2") is not None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"devices": {"a": 1}}', b"\xff\xfe", b'{"devices": []}'])
async def test_a_file_that_cannot_be_read_pauses_everything_until_somebody_resumes(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    damaged = Pauses(tmp_path, SetClock())
    assert damaged.of("anything") is not None
    assert "every device is taken for paused until `edge-gateway resume --all`" in caplog.text
    await damaged.pause(["a"], "")
    assert (tmp_path / FILE_NAME).read_bytes() == content, "which says that all are paused"
    await damaged.resume(["a"], "", ["a", "b"])
    assert damaged.of("a") is None
    again = Pauses(tmp_path, SetClock())
    assert again.of("a") is None
    assert again.of("b") is not None


async def test_a_resume_that_cannot_be_kept_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = Pauses(tmp_path, SetClock())
    await paused.pause(["a"], "")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(OSError, match="No space"):
        await paused.resume(["a"], "", ["a"])
    assert paused.of("a") is not None


def test_a_gate_opens_when_the_last_lets_go() -> None:
    gate = Gate()
    gate.hold(Held("log-full", "the log is full"))
    gate.hold(Held("paused", "paused"))
    gate.release("log-full")
    assert gate.shut.is_set()
    assert gate.held == Held("paused", "paused")
    gate.release("never-held")
    gate.release("paused")
    assert gate.open.is_set()
    assert gate.held is None
