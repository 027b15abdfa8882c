from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.problems import Path
from gateway.config.yaml import Document, parse

TEXT = """\
name: 锅炉   # a comment
defaults: &defaults
  timeout: 1s
points:
  - {point: a, unit: ℃}
  - point: b
    <<: *defaults
again: *defaults
"""


def document(text: str) -> Document:
    result, problems = parse("f.yaml", text.encode())
    assert not problems
    assert result
    return result


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("name",), (1, 1), (1, 7)),
        (("defaults", "timeout"), (3, 3), (3, 12)),
        (("points",), (4, 1), (5, 3)),
        (("points", 0), (5, 5), (5, 5)),
        (("points", 0, "unit"), (5, 16), (5, 22)),
        (("points", 1, "point"), (6, 5), (6, 12)),
        (("points", 1, "timeout"), (3, 3), (3, 12)),
        (("again", "timeout"), (3, 3), (3, 12)),
    ],
)
def test_positions(path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    where = document(TEXT)
    assert where.locate(path)[1:3] == value
    assert where.locate(path, key=True)[1:3] == key
    assert where.has(path)


def test_what_is_not_there_is_located_at_what_surrounds_it() -> None:
    assert document(TEXT).locate(("points", 1, "unit"))[1:3] == (6, 5)
    assert document(TEXT).locate(("nothing", 3, "at all"))[1:3] == (1, 1)


def test_merge_keys_and_anchors() -> None:
    assert document(TEXT).data == {
        "name": "锅炉",
        "defaults": {"timeout": "1s"},
        "points": [{"point": "a", "unit": "℃"}, {"point": "b", "timeout": "1s"}],
        "again": {"timeout": "1s"},
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("False", False), ("~", None), ("null", None),
        ("12", 12), ("-3", -3), ("0x1F", 31), ("0o17", 15), ("012", 12), ("1.50", 1.5), ("1e3", 1000.0), (".5", 0.5),
        ("12:30", "12:30"), ("1_000", "1_000"), ("2026-11-20", "2026-11-20"), ("3.1.1", "3.1.1"), ("", None),
        ('"12"', "12"), ("'true'", "true"), ("!!str 88.10", "88.10"), ("-.inf", float("-inf")), ("-", [None]),
        ("1" + "0" * 60, 1e60),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: Any) -> None:
    assert document(f"key: {written}\n" if written != "-" else "key:\n  -\n").data == {"key": value}


@given(st.binary(max_size=200))
@example(b"[" * 500)
@example(b"a: &a [*a]")
@example(b"? [a]: b")
@example(b"<<: 1")
@example(b"a: \x07")
@example(b"a: !!int x")
@example(b"%YAML 9.9\n---\na")
def test_any_bytes_give_a_document_or_problems(content: bytes) -> None:
    result, problems = parse("f.yaml", content)
    assert result or problems
    if result:
        result.locate(("a", 0))


@given(st.text("{}[]:,-&*!|>'\"%@`#a1 \n\t", max_size=60))
def test_any_yaml_like_text_gives_a_document_or_problems(text: str) -> None:
    result, problems = parse("f.yaml", text.encode())
    assert result or problems
    if result:
        result.locate(("a", 0))
