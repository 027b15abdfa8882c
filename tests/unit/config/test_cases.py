"""Every folder of tests/cases/config is a config; its expected.txt holds what `check` says about it, word for word.

A new case needs no code: add the folder, run this test, read what it says, and put it into expected.txt.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigProblems, load_config, storage

CASES = Path(__file__).parents[2] / "cases" / "config"
ENVIRONMENT = {"CENTRE": "hunter2-in-the-environment"}


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda case: case.name)
def test_check_says_what_is_expected(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda path: "ssd")
    monkeypatch.chdir(case)
    try:
        problems = load_config(Path(), environment=ENVIRONMENT).warnings
    except ConfigProblems as error:
        problems = error.problems
    said = "".join(f"{problem}\n" for problem in problems)
    assert said == (case / "expected.txt").read_text(encoding="utf-8")
    assert ENVIRONMENT["CENTRE"] not in said
