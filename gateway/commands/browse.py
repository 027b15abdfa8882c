"""`edge-gateway browse URL`: what is there, as a tree, as JSON, or as a device file."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from gateway.commands import browse_view
from gateway.commands.equipment import OK, PARTLY, ask, find_tools, item_report, write_json
from gateway.config.device_file import MOST_LETTERS, device_file, safe_name, usable
from gateway.config.yaml import parse
from gateway.contract import AdapterType, ConfigError, GatewayError
from gateway.contract.tools import Browsed, BrowseQuery, Kind, Target, Tools


def main(
    target: Target,
    query: BrowseQuery,
    *,
    endpoints: bool = False,
    to_config: Path | None = None,
    force: bool = False,
    password_env: str | None = None,
    as_json: bool = False,
) -> int:
    """Look and report; returns 0, or 3 when not all could be seen. Raises AdapterError and ConfigError."""
    adapter, tools = find_tools(target.url)
    if endpoints:
        return _endpoints(target, tools, as_json=as_json)
    if to_config is not None:
        _check_file(to_config, force=force)
    with _progress() as progress:
        found = ask(tools.browse(target, query, progress))
    if to_config is not None:
        password = f"${{env:{password_env or 'DEVICE_PASSWORD'}}}" if target.user is not None else None
        points = _write(to_config, adapter, tools.connection(target, password), target, found, force=force)
        sys.stderr.write(
            f"{to_config}: {points:,} points; put it into devices/ of a config folder and run `edge-gateway check`\n"
        )
    if as_json:
        write_json(_report(target, found))
    elif to_config is None:
        browse_view.show(Console(highlight=False), found)
    sys.stderr.write("".join(f"not seen: {problem}\n" for problem in found.problems))
    return PARTLY if found.problems else OK


def _endpoints(target: Target, tools: Tools, *, as_json: bool) -> int:
    found = ask(tools.endpoints(target))
    if as_json:
        write_json({"url": target.url, "endpoints": [asdict(each) for each in found]})
    else:
        browse_view.show_endpoints(Console(highlight=False), found)
    return OK


def _report(target: Target, found: Browsed) -> dict[str, Any]:
    return {
        "url": target.url,
        "device": found.device,
        "namespaces": found.legend,
        "requests": found.requests,
        "problems": found.problems,
        "nodes": [item_report(item) for item in found.items],
    }


@contextmanager
def _progress() -> Any:
    """A line on the terminal while it takes; nothing where errors go to a file."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("connecting") as status:
        show: Callable[[int, int], None] = lambda nodes, requests: status.update(  # noqa: E731
            f"{nodes:,} nodes, {requests:,} requests"
        )
        yield show


def _check_file(file: Path, *, force: bool) -> None:
    """Before anything is asked: whether the file can become a device file. Raises ConfigError."""
    name = file.stem
    if file.suffix != ".yaml" or safe_name(name) != name or len(name) > MOST_LETTERS:
        raise ConfigError(
            f"--to-config {file}: the file is named for its device: up to {MOST_LETTERS} letters, digits, "
            f'"-" and "_", then .yaml, such as boiler-1.yaml'
        )
    if not file.parent.is_dir():
        raise ConfigError(f"--to-config {file}: there is no folder {file.parent}; make it first")
    if file.exists() and not force:
        raise ConfigError(f"--to-config {file}: the file exists; choose another name, or add --force to replace it")


def _write(
    file: Path, adapter: AdapterType, connection: dict[str, Any], target: Target, found: Browsed, *, force: bool
) -> int:
    """Write the device file whole or not at all; returns the number of its points."""
    points = [item for item in found.items if usable(item)]
    if not points:
        raise GatewayError(f"--to-config {file}: nothing that can be read was found, so nothing was written")
    left_out = sum(item.kind is Kind.VALUE for item in found.items) - len(points)
    header = [f"Made by edge-gateway browse {target.url}"]
    if found.device:
        header.append(" · ".join(found.device.values()))
    if left_out:
        header.append(f"{left_out} values are left out: they cannot be read")
    header += [f"not seen: {problem}" for problem in found.problems]
    text = device_file(file.stem, adapter.name, connection, points, header)
    _prove(file, text, adapter)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as output:
            output.write(text)
        Path(temporary).chmod(0o644)
        if force:
            Path(temporary).replace(file)
        else:
            os.link(temporary, file)  # fails where the file has appeared meanwhile
    finally:
        Path(temporary).unlink(missing_ok=True)
    return len(points)


def _prove(file: Path, text: str, adapter: AdapterType) -> None:
    """Read the text back as the gateway will."""
    document, problems = parse(str(file), text.encode())
    if document is None or problems:
        raise GatewayError(f"{file}: the device file would not be right: {problems[0]}")
    try:
        adapter.device_model.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise GatewayError(f"{file}: the device file would not be right: {place}: {first['msg']}") from None
