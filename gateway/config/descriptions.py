"""What every key means, in English and Chinese: the models' own texts and `chinese.yaml`; for schema and reference."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

Language = Literal["en", "zh", "both"]


class Texts(NamedTuple):
    """The content of `chinese.yaml`."""

    chinese: dict[str, str]
    """by the English text"""
    keys: dict[str, tuple[str, str]]
    """English and Chinese, by "Model.key" or by the key alone"""


@cache
def texts() -> Texts:
    """Read once."""
    loaded = yaml.safe_load(resources.files(__package__).joinpath("chinese.yaml").read_text(encoding="utf-8"))
    return Texts(loaded["texts"], {key: (english, chinese) for key, (english, chinese) in loaded["keys"].items()})


def described(schema: dict[str, Any], model: str, language: Language) -> list[str]:
    """Give every key and group of a JSON Schema its description in `language`; returns what is not there in Chinese.

    `model` is the name of the model that the schema's root is made of. Changes the schema.
    """
    missing: list[str] = []
    for name, group in ((model, schema), *schema.get("$defs", {}).items()):
        if "description" in group:
            group["description"] = _said(group["description"], language, missing)
        for key, value in group.get("properties", {}).items():
            value["description"] = _of_key(name, key, value.get("description"), language, missing)
    return missing


def _of_key(model: str, key: str, english: str | None, language: Language, missing: list[str]) -> str:
    if english:
        return _said(english, language, missing)
    known = texts().keys.get(f"{model}.{key}") or texts().keys.get(key)
    if known is None:
        missing.append(f"{model}.{key}")
        return ""
    return _in(language, *known)


def _said(english: str, language: Language, missing: list[str]) -> str:
    english = english.split("\n\n", maxsplit=1)[0].replace("\n", " ")
    chinese = texts().chinese.get(english)
    if chinese is None:
        missing.append(english)
        return english
    return _in(language, english, chinese)


def _in(language: Language, english: str, chinese: str) -> str:
    return {"en": english, "zh": chinese, "both": f"{english} / {chinese}"}[language]
