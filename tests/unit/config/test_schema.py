"""What editors and the reference are made of: whole, current, in both languages, and agreed with the check."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config.load import load_config
from gateway.config.problems import ConfigProblems
from gateway.config.reference import FOLDER as PAGES_FOLDER
from gateway.config.reference import MARK, PAGES, page
from gateway.config.schema import FOLDER, groups, schemas
from gateway.config.yaml import parse
from tests.unit.config.test_cases import CASES, ENVIRONMENT

ROOT = Path(__file__).parents[3]
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")


def data(file: Path) -> Any:
    document, problems = parse(str(file), file.read_bytes())
    assert document, problems
    return document.data


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / FOLDER / name).read_text(encoding="utf-8")))


def complaints(name: str, content: Any) -> list[str]:
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator(name).iter_errors(content)]


def test_every_key_is_described_in_both_languages() -> None:
    missing = {text for group in groups("both") for text in group.untranslated}
    assert not missing, "add these to gateway/config/chinese.yaml, then run python -m gateway.config.schema --write"


def test_the_schemas_are_schemas() -> None:
    for text in schemas().values():
        Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_current(name: str) -> None:
    text = (ROOT / PAGES_FOLDER / name).read_text(encoding="utf-8")
    assert MARK in text
    assert page(text, PAGES[name]) == text, f"{name}: run python -m gateway.config.reference --write"
    anchors = {re.sub(r" ", "-", line[4:]) for line in text.splitlines() if line.startswith("### ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize("file", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_name_their_schema_and_satisfy_it(file: Path) -> None:
    line = file.read_text(encoding="utf-8").splitlines()[0]
    named = MODELINE.fullmatch(line)
    assert named, f"{file}: the first line names the schema for editors"
    schema = (file.parent / named[1]).resolve()
    assert schema.parent == ROOT / FOLDER
    assert not complaints(schema.name, data(file))


STRICTER = {"boolean-yes"}
"""cases that the check takes and an editor underlines: YAML 1.2 says that yes is a text"""


def right_cases() -> list[Path]:
    right = [case for case in sorted(CASES.iterdir()) if "error:" not in (case / "expected.txt").read_text("utf-8")]
    return [case for case in right if case.name not in STRICTER]


@pytest.mark.parametrize("case", right_cases(), ids=lambda case: case.name)
def test_what_the_check_takes_the_schema_takes(case: Path) -> None:
    for folder, kind in (("devices", "device"), ("templates", "template")):
        for file in sorted((case / folder).glob("*.yaml")):
            content = data(file)
            adapter = content.get("adapter", "modbus")
            assert not complaints(f"{kind}-{adapter}.schema.json", content), file
    assert not complaints("gateway.schema.json", data(case / "gateway.yaml"))


def test_with_a_template_a_device_file_may_be_short() -> None:
    short = {"device": "a", "template": "t", "connection": {"station": 3}, "points": [{"point": "p", "unit": "m"}]}
    assert not complaints("device-modbus.schema.json", short)
    del short["template"]
    said = "\n".join(complaints("device-modbus.schema.json", short))
    assert "'url' is a required property" in said
    assert "'adapter' is a required property" in said
    assert "'address' is a required property" in said


@pytest.mark.parametrize(
    ("case", "schema", "file"),
    [
        ("unknown-key-in-point", "device-modbus", "devices/boiler-1.yaml"),
        ("unknown-key-in-gateway", "gateway", "gateway.yaml"),
        ("wrong-choice", "device-modbus", "devices/boiler-1.yaml"),
        ("duration-without-unit", "device-modbus", "devices/boiler-1.yaml"),
        ("missing-max-grade", "gateway", "gateway.yaml"),
        ("template-with-mistake", "template-modbus", "templates/steam-boiler.yaml"),
        ("template-placeholder-without-quotes", "template-modbus", "templates/steam-boiler.yaml"),
        ("list-for-mapping", "device-modbus", "devices/boiler-1.yaml"),
    ],
)
def test_editors_underline_what_the_check_refuses(
    case: str, schema: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CASES / case)
    with pytest.raises(ConfigProblems):
        load_config(Path(), environment=ENVIRONMENT)
    assert complaints(f"{schema}.schema.json", data(CASES / case / file))
