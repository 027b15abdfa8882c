"""The documents say what is there: links lead somewhere, examples are valid, both languages name the same commands."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCHEMAS = sorted((DOCS / "schemas").glob("*.schema.json"))
PAGES = sorted([*ROOT.glob("README*.md"), *DOCS.rglob("*.md")])
ASYNCAPI: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    found = set(references(ASYNCAPI))
    assert found
    for reference in found:
        file, _, pointer = reference.partition("#")
        assert file or pointer
        node = json.loads((DOCS / file).read_text(encoding="utf-8")) if file else ASYNCAPI
        for part in filter(None, pointer.split("/")):
            node = node[part]


def test_every_schema_is_a_message_on_a_channel() -> None:
    assert SCHEMAS
    messages = ASYNCAPI["components"]["messages"]
    assert {each["payload"]["$ref"] for each in messages.values()} == {f"schemas/{path.name}" for path in SCHEMAS}
    used = {
        message["$ref"].rpartition("/")[2]
        for channel in ASYNCAPI["channels"].values()
        for message in channel["messages"].values()
    }
    assert used == set(messages)
    for message in messages.values():
        schema = json.loads((DOCS / message["payload"]["$ref"]).read_text(encoding="utf-8"))
        assert schema["properties"]["schema"]["const"] == message["name"]


def test_every_channel_has_an_operation() -> None:
    sent = {each["channel"]["$ref"].rpartition("/")[2] for each in ASYNCAPI["operations"].values()}
    assert sent == set(ASYNCAPI["channels"])


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_schemas_are_schemas_and_are_documented(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] in (DOCS / "wire.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_example_messages_fit_their_schema(page: Path) -> None:
    for block in blocks(page, "json"):
        message = json.loads(block)
        name, _, version = message["schema"].partition("/")
        schema = json.loads((DOCS / "schemas" / f"{name}-{version}.schema.json").read_text(encoding="utf-8"))
        Draft202012Validator(schema).validate(message)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_both_languages_name_the_same_commands_and_links() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"

    def commands(page: Path) -> list[str]:
        lines = [line.partition("#")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
        return [line for line in lines if line]

    def links(page: Path) -> set[str]:
        return set(re.findall(r"\]\((?!README)([^)]+)\)", page.read_text(encoding="utf-8")))

    assert commands(english) == commands(chinese)
    assert blocks(english, "yaml") == blocks(chinese, "yaml")
    assert links(english) == links(chinese)


def test_make_has_the_commands_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks(ROOT / "README.md", "sh"):
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_reconciliation_query_finds_what_was_not_stored() -> None:
    (query,) = blocks(DOCS / "wire.md", "sql")
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE readings (enterprise, gateway, stream, device, n)")
        database.execute(
            "CREATE TABLE account (enterprise, gateway, stream, device, first_n, last_n,"
            " accepted, waiting, withheld, parked, dropped)"
        )
        database.executemany("INSERT INTO readings VALUES ('e', 'g', 's', 'd', ?)", [(n,) for n in (3, 5, 6, 8, 20)])
        database.execute("INSERT INTO account VALUES ('e', 'g', 's', 'd', 5, 9, 5, 0, 0, 1, 0)")
        database.execute("INSERT INTO account VALUES ('e', 'g', 's', 'busy', 5, 9, 5, 1, 0, 0, 0)")
        assert database.execute(query).fetchall() == [("s", "d", 4, 3)]
    database.close()


def table_rows(page: Path) -> list[str]:
    """The lines of a page's tables, without heads and rulers."""
    lines = page.read_text(encoding="utf-8").splitlines()
    tables = [line for line in lines if line.startswith("|")]
    rulers = {number for number, line in enumerate(tables) if set(line) <= set("|-")}
    return [line for number, line in enumerate(tables) if not {number, number + 1} & rulers]


def test_every_fault_of_the_log_is_shown_by_tests_that_exist() -> None:
    rows = table_rows(DOCS / "log-faults.md")
    assert len(rows) > 20
    for row in rows:
        shown = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert shown, row
        for file, name in shown:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"
