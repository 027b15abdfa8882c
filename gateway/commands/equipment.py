"""What `browse` and `read` share: finding the tools for a URL, the login, running and telling what went wrong."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections.abc import Coroutine
from importlib.metadata import entry_points
from typing import Any, TypeVar

import orjson

from gateway.config.load import ADAPTERS_GROUP
from gateway.contract import AdapterError, ConfigError
from gateway.contract.registers import HasRegisterTools
from gateway.contract.tools import HasTools, Item, Tools
from gateway.rfc3339 import rfc3339

T = TypeVar("T")

OK = 0
FAILED = 1
WRONG = 2
PARTLY = 3

_OPTIONS = {
    "set connection.allow_insecure_password: true": "accept that with --allow-insecure-password",
    "connection.allow_insecure_password: true": "--allow-insecure-password",
    "connection.url": "the url",
    "connection.pki": "--pki",
    "connection.user": "--user and --password-env",
    "connection.security": "--security",
}
"""how the command line says what messages call by the keys of a device file"""


def find_tools(url: str) -> tuple[HasTools, Tools]:
    """The installed adapter for the URL's scheme and its tools. Raises ConfigError that names the known schemes."""
    scheme, separator, _ = url.partition("://")
    known: dict[str, HasTools] = {}
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        if isinstance(adapter, HasTools):
            known |= dict.fromkeys(adapter.schemes, adapter)
    found = known.get(scheme.lower()) if separator else None
    if found is None:
        examples = ", ".join(f"{each}://host:port" for each in sorted(known)) or "none is installed"
        raise ConfigError(f"{url}: expected a url that begins with a known scheme ({examples})")
    return found, found.tools()


def find_register_tools(url: str) -> HasRegisterTools | None:
    """The installed adapter whose equipment has registers at such a URL; None if there is none."""
    scheme = url.partition("://")[0].lower()
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        if isinstance(adapter, HasRegisterTools) and scheme in adapter.schemes:
            return adapter
    return None


def password_for(user: str | None, variable: str | None) -> str | None:
    """The password of `user` from the environment, or asked for at a terminal. Raises ConfigError."""
    if variable is not None:
        if user is None:
            raise ConfigError("--password-env needs --user")
        password = os.environ.get(variable)
        if not password:
            raise ConfigError(f"--password-env {variable}: this environment variable is not set, or empty")
        return password
    if user is None:
        return None
    if not sys.stdin.isatty():
        raise ConfigError("--user needs --password-env NAME: the environment variable that holds the password")
    import typer  # noqa: PLC0415 - only where somebody can answer

    answer: str = typer.prompt(f"password of {user}", hide_input=True, err=True)
    return answer


def ask(question: Coroutine[Any, Any, T]) -> T:
    """Run one question; its errors say what to do in the words of the command line."""
    # What goes wrong is raised; the protocol library's own words beside it would only confuse.
    logging.basicConfig(handlers=[logging.NullHandler()])
    try:
        return asyncio.run(question)
    except (AdapterError, ConfigError) as error:
        message = str(error)
        for key, option in _OPTIONS.items():
            message = message.replace(key, option)
        raise type(error)(message) from error


def write_json(report: Any) -> None:
    """Print a report for programs."""
    sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")


def item_report(item: Item) -> dict[str, Any]:
    """An item for programs; what there is none of is null."""
    return {
        "address": item.address,
        "short": item.short,
        "path": "/".join(item.path),
        "name": item.name,
        "tag": item.tag,
        "kind": item.kind,
        "description": item.description,
        "type": item.type,
        "readable": item.access.read,
        "writable": item.access.write,
        "value": finite(item.value),
        "status": item.status,
        "status_text": item.status_text,
        "source_time": None if item.source_ns is None else rfc3339(item.source_ns),
        "server_time": None if item.server_ns is None else rfc3339(item.server_ns),
        "unit": item.unit,
        "low": finite(item.low),
        "high": finite(item.high),
        "point": item.point,
    }


def finite(value: Any) -> Any:
    """`value` for JSON, which has no NaN and no infinities: those as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [finite(each) for each in value]
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return value


def value_text(value: Any, *, exact: bool = False) -> str:
    """`value` on one line for people; floating-point numbers to six digits unless `exact`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if exact else f"{value:.6g}"
    text = value if isinstance(value, str) else orjson.dumps(finite(value), option=orjson.OPT_NON_STR_KEYS).decode()
    # What a terminal would take for a command comes from the equipment as well.
    return "".join(each if each.isprintable() else " " for each in text)
