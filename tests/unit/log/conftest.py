"""What every test of the log begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logs import SetClock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the log will be."""
    return tmp_path / "log"


@pytest.fixture
def clock() -> SetClock:
    """A clock that is set."""
    return SetClock()
