"""JSON Schemas of the config files, so that editors complete and check: `python -m gateway.config.schema --write`.

An editor with the YAML language server finds them by a comment at the top of a file:
`# yaml-language-server: $schema=../schema/device-modbus.schema.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from gateway.config.descriptions import Language, described
from gateway.config.load import ADAPTERS_GROUP
from gateway.config.models import GatewayFile
from gateway.config.quantities import duration_text
from gateway.config.sources import TABLES

FOLDER = Path("config/schema")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLACEHOLDER = {"type": "string", "pattern": r"\{ *[A-Za-z0-9]"}
_VALUE = {"type": ["string", "number", "boolean"]}
_PARAMETERS = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
            "additionalProperties": {
                "anyOf": [
                    _VALUE,
                    {"type": "null"},
                    {
                        "type": "object",
                        "properties": {"default": _VALUE, "description": {"type": "string"}},
                        "additionalProperties": False,
                    },
                ]
            },
        },
    ]
}
"""how a template declares its parameters: `gateway.config.templates`"""


class Group(NamedTuple):
    """The schema of one kind of file."""

    name: str
    """such as "gateway", "device-modbus" or "template-modbus" """
    schema: dict[str, Any]
    untranslated: tuple[str, ...]
    """descriptions that chinese.yaml lacks"""


def groups(language: Language) -> Iterator[Group]:
    """The schemas of gateway.yaml, and of device files and templates for each installed adapter."""
    yield _group("gateway", GatewayFile, _tidy, language)
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        for kind, change in (("device", _of_device), ("template", _of_template)):
            group = _group(f"{kind}-{adapter.name}", adapter.device_model, change, language)
            group.schema["properties"]["adapter"]["const"] = adapter.name
            yield group


def schemas() -> dict[str, str]:
    """Every schema's text by file name: gateway, and a device file and a template per installed adapter."""
    return {f"{group.name}.schema.json": _text(group.schema) for group in groups("both")}


def _group(
    name: str, model: type[BaseModel], change: Callable[[dict[str, Any]], dict[str, Any]], language: Language
) -> Group:
    schema = {"$schema": _DIALECT, **model.model_json_schema(by_alias=True)}
    untranslated = described(schema, model.__name__, language)
    return Group(name, change(schema), tuple(untranslated))


def _of_device(schema: dict[str, Any]) -> dict[str, Any]:
    return _mixed(_with_template(_tidy(schema)))


def _mixed(schema: dict[str, Any]) -> dict[str, Any]:
    """A derived point may stand among the points that are read (`gateway.config.sources.is_derived`)."""
    for tables in (schema["properties"], schema.get("else", {}).get("properties")):
        if tables:
            derived = tables["derived"]["items"]
            either = {"if": {"anyOf": [{"required": ["expression"]}, {"required": ["window"]}]}, "then": derived}
            tables["points"] = tables["points"] | {"items": either | {"else": tables["points"]["items"]}}
    return schema


def _of_template(schema: dict[str, Any]) -> dict[str, Any]:
    """What device files share: nothing is required but names of points, and every value may be a placeholder."""
    schema = _tidy(schema)
    for group in (schema, *schema["$defs"].values()):
        group["required"] = [key for key in group.get("required", ()) if key == "point"]
        if not group["required"]:
            del group["required"]
        for key, value in group.get("properties", {}).items():
            group["properties"][key] = _or_placeholder(value)
    for key in ("device", "template", "without"):
        del schema["properties"][key]
    schema["properties"]["points"].pop("minItems", None)
    described = {"description": schema["properties"]["parameters"]["description"]}
    schema["properties"]["parameters"] = described | _PARAMETERS
    return _mixed(schema)


def _or_placeholder(value: dict[str, Any]) -> dict[str, Any]:
    """A single value, or a text such as "{unit}"; groups and lists stay as they are."""
    if "$ref" in value or value.get("type") in ("object", "array"):
        return value
    around = {key: value[key] for key in ("description", "default", "examples") if key in value}
    inner = {key: each for key, each in value.items() if key not in around}
    return around | {"anyOf": [*inner.get("anyOf", [inner]), _PLACEHOLDER]}


def _with_template(schema: dict[str, Any]) -> dict[str, Any]:
    """A device file that names a template may leave out what the template has."""
    required = schema.pop("required")
    full, partial = {}, {}
    for table in TABLES:
        whole = schema["properties"][table]
        point = whole["items"]["$ref"].rpartition("/")[2]
        override = f"{point}Override"
        schema["$defs"][override] = {**schema["$defs"][point], "required": ["point"]}
        full[table] = whole
        partial[table] = {
            "type": "array",
            "items": {"$ref": f"#/$defs/{override}"},
            "description": whole["description"],
        }
    for key, value in schema["properties"].items():
        name = value.get("$ref", "").rpartition("/")[2]
        if "required" in schema["$defs"].get(name, {}):
            full[key] = value
            loose = {part: each for part, each in schema["$defs"][name].items() if part != "required"}
            schema["$defs"][f"{name}Override"] = loose
            partial[key] = {**value, "$ref": f"#/$defs/{name}Override"}
    schema["properties"] |= partial
    return schema | {
        "if": {"required": ["template"]},
        "then": {"required": ["device"]},
        "else": {"required": required, "properties": full},
    }


def _tidy(node: Any) -> Any:
    """Without titles, which repeat the keys, and with defaults as one would write them."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    default = tidy.get("default")
    if default is None or isinstance(default, dict | list):
        tidy.pop("default", None)
    elif isinstance(default, int | float) and tidy.get("type") == "string":
        tidy["default"] = duration_text(default) if "ms|" in tidy["pattern"] else f"{default / 1000:g}KB"
    return tidy


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write the schemas, or say whether the files are current; returns 0, or 1 when they are not."""
    parser = argparse.ArgumentParser(prog="python -m gateway.config.schema", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them; without it they are compared")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    stale = []
    for name, text in schemas().items():
        file = arguments.folder / name
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if arguments.write:
            file.write_text(text, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{'written' if arguments.write else 'not current'}: {arguments.folder / name}\n")
    return 1 if stale and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
