from pathlib import Path

import pytest

from tests.unit.tables.plant import Plant


@pytest.fixture
def plant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plant:
    return Plant(tmp_path, capsys)
