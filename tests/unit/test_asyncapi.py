"""docs/asyncapi.yaml is an AsyncAPI document: by the schema of those who write the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPECIFICATION = ROOT / "tests/interop/asyncapi/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


@pytest.fixture(scope="module")
def specification() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_text(encoding="utf-8")))


def document() -> Any:
    return yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))


def test_the_document_is_what_the_specification_says(specification: jsonschema.Draft7Validator) -> None:
    assert [f"{error.json_path}: {error.message[:200]}" for error in specification.iter_errors(document())] == []


def test_the_specification_would_notice(specification: jsonschema.Draft7Validator) -> None:
    wrong = document()
    wrong["channels"]["status"]["parameters"]["topic"] = {"description": "a topic", "from 0": None}
    assert not specification.is_valid(wrong)
