"""JSON Schemas of the config files, so that editors complete and check: `python -m gateway.config.schema --write`.

An editor with the YAML language server finds them by a comment at the top of a file:
`# yaml-language-server: $schema=../schema/device-modbus.schema.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.config.load import ADAPTERS_GROUP
from gateway.config.models import GatewayFile
from gateway.config.quantities import duration_text

FOLDER = Path("config/schema")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """Every schema's text by file name: gateway, and one per installed adapter."""
    result = {"gateway.schema.json": _text(_schema(GatewayFile))}
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        schema = _with_template(_schema(adapter.device_model))
        schema["properties"]["adapter"] = {"const": adapter.name}
        result[f"device-{adapter.name}.schema.json"] = _text(schema)
    return result


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return {"$schema": _DIALECT, **_tidy(schema)}


def _with_template(schema: dict[str, Any]) -> dict[str, Any]:
    """A device file that names a template may leave out what the template has."""
    full = schema["properties"]["points"]
    point = full["items"]["$ref"].rpartition("/")[2]
    partial = {**schema["$defs"][point], "required": ["point"]}
    override = f"{point}Override"
    required = schema.pop("required")
    schema["$defs"][override] = partial
    schema["properties"]["points"] = {"type": "array", "items": {"$ref": f"#/$defs/{override}"}}
    return schema | {
        "if": {"required": ["template"]},
        "then": {"required": ["device"]},
        "else": {"required": required, "properties": {"points": full}},
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
