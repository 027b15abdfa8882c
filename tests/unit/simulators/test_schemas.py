"""The quick proof never accepts what the reference validator refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from simulators.centre.schemas import DEFAULT_FOLDER, NoProof, SchemaSet, compile_proof
from simulators.centre.wire import WireError
from tests.support.messages import account, catalogue, columns, entry, readings, stream_closed

SCHEMAS = SchemaSet()
VALID = [
    readings(0, [1, None, "NaN", [1]], basis="gateway"),
    columns(0, [1, 2], s=[0, 1], basis=[0, 2], flags=3),
    columns(0, [1, 2], ot=["1601-01-01T00:00:00Z", None]),
    columns(0, [1, 2], ot="1970-01-01T00:00:00.5Z"),
    catalogue(),
    account(entry(accepted=3)),
    stream_closed(0, {"boiler-1": 4}),
]
ODD: list[Any] = [None, True, False, -1, 0, 1, 1.0, 1.5, 2**40, "", "x", "live", [], [1], ["a"], {}, {"v": 1}]


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, item in inner for spot in spots(item, (*path, key)))]


@given(st.sampled_from(VALID), st.data())
def test_proof_is_sound(message: dict[str, Any], data: st.DataObject) -> None:
    damaged = copy.deepcopy(message)
    for _ in range(data.draw(st.integers(1, 2))):
        places = [spot for spot in spots(damaged) if spot]
        *way, last = data.draw(st.sampled_from(places))
        holder = damaged
        for key in way:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[last] = data.draw(st.sampled_from(ODD))
        else:
            del holder[last]
    name = message["schema"]
    schema = json.loads((DEFAULT_FOLDER / f"{name.replace('/', '-')}.schema.json").read_text())
    if compile_proof(schema)(damaged):
        Draft202012Validator(schema).validate(damaged)


@pytest.mark.parametrize("message", VALID, ids=lambda message: message["schema"])
def test_valid_messages_are_proved_quickly(message: dict[str, Any]) -> None:
    name = message["schema"]
    assert SCHEMAS.validate(message) == name
    schema = json.loads((DEFAULT_FOLDER / f"{name.replace('/', '-')}.schema.json").read_text())
    assert compile_proof(schema)(message)


def test_every_published_schema_has_a_quick_proof() -> None:
    assert {"readings/1", "columns/1", "catalogue/1", "account/1", "status/1", "health/1"} <= SCHEMAS.names
    assert SCHEMAS.quick_names == SCHEMAS.names


def test_errors_say_where() -> None:
    message = readings(0, [1])
    message["readings"][0]["q"] = "fine"
    with pytest.raises(WireError, match=r"readings/1: \$\.readings\[0\]\.q: 'fine' is not one of"):
        SCHEMAS.validate(message)
    with pytest.raises(WireError, match="unknown-schema: schema 'readings/9'"):
        SCHEMAS.validate(message | {"schema": "readings/9"})


def test_unknown_keywords_have_no_proof() -> None:
    with pytest.raises(NoProof):
        compile_proof({"type": "object", "properties": {"a": {"multipleOf": 3}}})
