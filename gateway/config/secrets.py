"""Secrets stay outside the config: "${env:NAME}" and "${file:/path}" in any value.

Values never reach a message: problems name the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from gateway.config.problems import Path, Problem
from gateway.config.yaml import Document

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_MAX_BYTES = 64 * 1024


class Secrets:
    """Puts the secrets of a config's documents in, and takes them out of messages again."""

    def __init__(self, folder: FilePath, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._references: dict[str, str] = {}

    def fill(self, document: Document) -> list[Problem]:
        """Replace every reference in the document's data; returns what is missing."""
        problems: list[Problem] = []
        document.data = self._walk(document, document.data, (), problems)
        return problems

    def redact(self, message: str) -> str:
        """The message with every value that was put in replaced by its reference."""
        for value in sorted(self._references, key=len, reverse=True):
            for shown in (value, repr(value)[1:-1]):  # messages quote by repr, which escapes
                message = message.replace(shown, self._references[value])
        return message

    def _walk(self, document: Document, node: Any, path: Path, problems: list[Problem]) -> Any:
        if isinstance(node, str):
            return self._text(document, node, path, problems) if "${" in node else node
        if isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, dict | list) or (isinstance(value, str) and "${" in value):
                    node[key] = self._walk(document, value, (*path, key), problems)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                if isinstance(value, dict | list) or (isinstance(value, str) and "${" in value):
                    node[index] = self._walk(document, value, (*path, index), problems)
        return node

    def _text(self, document: Document, text: str, path: Path, problems: list[Problem]) -> str:
        def replace(match: re.Match[str]) -> str:
            try:
                value = self._value(match[1])
            except _Missing as error:
                problems.append(Problem.at(document.locate(path), f"{match[0]}: {error.message}", error.hint))
                return match[0]
            self._references[value] = match[0]
            return value

        document.secrets[path] = text
        return _REFERENCE.sub(replace, text)

    def _value(self, reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            value = self._environment.get(name)
            if not value:
                state = "is not set" if value is None else "is empty"
                raise _Missing(f"the environment variable {name} {state}", f"set {name} where the gateway is started")
            return value
        if kind == "file" and name:
            return self._read(self._folder / name)
        raise _Missing("unknown kind of reference", "write ${env:NAME} or ${file:/run/secrets/name}")

    def _read(self, path: FilePath) -> str:
        hint = f"put the secret into {path}, readable by the gateway's user only"
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            value = content.decode().rstrip("\r\n")
        except OSError as error:
            raise _Missing(f"the file cannot be read ({error.strerror})", hint) from error
        except UnicodeDecodeError as error:
            raise _Missing("the file is not UTF-8 text", hint) from error
        if not value:
            raise _Missing("the file is empty", hint)
        if len(content) > _MAX_BYTES:
            raise _Missing(f"the file is longer than {_MAX_BYTES} bytes", "name the file that holds the secret alone")
        return value


class _Missing(Exception):
    def __init__(self, message: str, hint: str) -> None:
        self.message = message
        self.hint = hint
