"""Validation against the published JSON Schemas, fast enough for every message.

The reference is `jsonschema`, which takes 10 us for each value. Most messages are valid, so a quick proof comes first:
closures compiled from the schema that answer True only where the reference would. Where there is no proof (an unknown
keyword, 1.0 for an integer, an invalid message), the reference decides and words the error.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from simulators.centre.wire import WireError

Proof = Callable[[Any], bool]

_CHECKOUT = Path(__file__).parents[2] / "docs" / "schemas"
DEFAULT_FOLDER = _CHECKOUT if _CHECKOUT.is_dir() else Path(__file__).parent / "published"
"""the published schemas: of the checkout, or the copy that an installed package brings"""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS = {"$schema", "$id", "$comment", "title", "description", "examples", "default", "deprecated", "format"}


class SchemaSet:
    """All schemas of a folder, `<name>-<version>.schema.json` each."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self._validators: dict[str, Draft202012Validator] = {}
        self._proofs: dict[str, Proof] = {}
        for path in sorted(folder.glob("*.schema.json")):
            schema = json.loads(path.read_text(encoding="utf-8"))
            name, _, version = path.name.removesuffix(".schema.json").rpartition("-")
            Draft202012Validator.check_schema(schema)
            self._validators[f"{name}/{version}"] = Draft202012Validator(schema)
            try:
                self._proofs[f"{name}/{version}"] = compile_proof(schema)
            except NoProof:
                continue
        if not self._validators:
            raise FileNotFoundError(f"no *.schema.json in {folder}: give the folder of the published schemas")

    @property
    def names(self) -> set[str]:
        """The known ids, such as readings/1."""
        return set(self._validators)

    @property
    def quick_names(self) -> set[str]:
        """Those with a quick proof."""
        return set(self._proofs)

    def validate(self, message: dict[str, Any]) -> str:
        """The message's schema id. Raises WireError of kind `schema` or `unknown-schema`."""
        name = message.get("schema")
        if not isinstance(name, str) or name not in self._validators:
            raise WireError("unknown-schema", f"schema {name!r}; known: {', '.join(sorted(self._validators))}")
        proof = self._proofs.get(name)
        if proof is not None and proof(message):
            return name
        for error in self._validators[name].iter_errors(message):
            raise WireError("schema", f"{name}: {error.json_path}: {error.message[:500]}")
        return name


class NoProof(Exception):
    """The schema uses something that the quick proof does not know."""


def compile_proof(schema: dict[str, Any] | bool) -> Proof:
    """A function that is True only for instances that are valid. Raises NoProof for unknown keywords."""
    if schema is True:
        return lambda instance: True
    if schema is False:
        return lambda instance: False
    keywords = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    proofs: list[Proof] = []
    for group, build in _BUILDERS:
        if used := {key: keywords.pop(key) for key in group if key in keywords}:
            proofs.append(build(used))
    if keywords:
        raise NoProof(f"unknown keywords {sorted(keywords)}")
    if not proofs:
        return lambda instance: True
    return functools.reduce(_both, proofs)


def _both(one: Proof, other: Proof) -> Proof:
    return lambda instance: one(instance) and other(instance)


def _type(used: dict[str, Any]) -> Proof:
    names = used["type"] if isinstance(used["type"], list) else [used["type"]]
    types = {python for name in names for python in _TYPES[name]}
    if len(types) == 1:
        only = next(iter(types))
        return lambda instance: type(instance) is only
    return lambda instance: type(instance) in types


def _values(used: dict[str, Any]) -> Proof:
    allowed = [used["const"]] if "const" in used else used["enum"]
    if any(isinstance(value, dict | list) for value in allowed) or len(used) > 1:
        raise NoProof("const or enum of containers")
    if all(type(value) is str for value in allowed):
        texts = frozenset(allowed)
        return lambda instance: type(instance) is str and instance in texts
    pairs = {(type(value), value) for value in allowed}  # True == 1 in Python, not in JSON
    return lambda instance: isinstance(instance, str | int | float | None) and (type(instance), instance) in pairs


def _bounds(used: dict[str, Any]) -> Proof:
    low, high = used.get("minimum", float("-inf")), used.get("maximum", float("inf"))
    return lambda instance: type(instance) not in (int, float) or low <= instance <= high


def _text(used: dict[str, Any]) -> Proof:
    least = used.get("minLength", 0)
    if "pattern" not in used:
        return lambda instance: type(instance) is not str or len(instance) >= least
    search = re.compile(used["pattern"]).search
    if not least:
        return lambda instance: type(instance) is not str or search(instance) is not None
    return lambda instance: type(instance) is not str or (len(instance) >= least and search(instance) is not None)


def _object(used: dict[str, Any]) -> Proof:
    known = {key: compile_proof(schema) for key, schema in used.get("properties", {}).items()}
    required = frozenset(used.get("required", ()))
    others = compile_proof(used.get("additionalProperties", True))

    def proof(instance: Any) -> bool:
        if type(instance) is not dict:
            return True
        for key, value in instance.items():
            if not known.get(key, others)(value):
                return False
        return required <= instance.keys()

    return proof


def _array(used: dict[str, Any]) -> Proof:
    least, most = used.get("minItems", 0), used.get("maxItems", float("inf"))
    unique = used.get("uniqueItems", False)
    every = _every(used.get("items", True))

    def proof(instance: Any) -> bool:
        if type(instance) is not list:
            return True
        if not least <= len(instance) <= most or not every(instance):
            return False
        return not unique or (set(map(type, instance)) == {str} and len(set(instance)) == len(instance))

    return proof


def _every(items: dict[str, Any] | bool) -> Proof:
    """The proof for all of a list; a list of integers is checked by its least and greatest."""
    if isinstance(items, dict) and items.get("type") == "integer":
        rest = {key for key in items if key not in _ANNOTATIONS} - {"type", "minimum", "maximum"}
        if not rest:
            low, high = items.get("minimum", float("-inf")), items.get("maximum", float("inf"))
            return lambda xs: not xs or (set(map(type, xs)) == {int} and low <= min(xs) and max(xs) <= high)
    if items is True:
        return lambda xs: True
    one = compile_proof(items)
    return lambda xs: all(map(one, xs))


def _one_of(used: dict[str, Any]) -> Proof:
    """Exactly one branch: one is proved, and every other is excluded by the instance's type alone."""
    branches = [(compile_proof(branch), _types_of(branch)) for branch in used["oneOf"]]

    def proof(instance: Any) -> bool:
        possible = [branch for branch, types in branches if type(instance) in types]
        return len(possible) == 1 and possible[0](instance)

    return proof


def _types_of(schema: dict[str, Any]) -> set[type]:
    """Every Python type that an instance of the schema can have."""
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        types = {python for name in names for python in _TYPES[name]}
        return types | {float} if int in types else types  # 1.0 is an integer to the reference
    if "enum" in schema and all(type(value) in (int, str) for value in schema["enum"]):
        types = set(map(type, schema["enum"]))
        return types | {float} if int in types else types
    raise NoProof("oneOf with branches of any type")


_BUILDERS: tuple[tuple[tuple[str, ...], Callable[[dict[str, Any]], Proof]], ...] = (
    (("type",), _type),
    (("const", "enum"), _values),
    (("minimum", "maximum"), _bounds),
    (("minLength", "pattern"), _text),
    (("properties", "required", "additionalProperties"), _object),
    (("items", "minItems", "maxItems", "uniqueItems"), _array),
    (("oneOf",), _one_of),
)
