"""The page on point tables says what the commands print: every command on it is run, in the order of the page."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.unit.tables.plant import Plant

ROOT = Path(__file__).parents[3]
TABLES = ("compressor-1.csv", "wrong.csv")
"""what the tables on the page are called, in their order"""


@pytest.mark.parametrize("page", ["point-tables.md", "point-tables.zh.md"])
def test_every_command_prints_what_the_page_says(plant: Plant, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    monkeypatch.chdir(plant.root)
    shutil.rmtree(plant.config)
    shutil.copytree(ROOT / "config", plant.config)
    tables = re.findall(r"^```csv\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, table in zip(TABLES, tables, strict=True):
        Path(name).write_text(table, encoding="utf-8")
    runs = re.findall(r"^\$ edge-gateway points (.*)\n((?:(?!\$ |```).*\n)*)", text, re.MULTILINE)
    assert len(runs) >= 6
    for command, printed in runs:
        assert plant.run(*shlex.split(command))[1] == printed, command
