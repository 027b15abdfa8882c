"""A device as it is after its template was filled in: one file that says the same, and where each point came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from gateway.config.device_file import flow_lines, scalar
from gateway.config.load import load_checked
from gateway.config.problems import ConfigProblems, Path, Place, Problem
from gateway.config.sources import TABLES, Overlay, Source
from gateway.config.words import nearest
from gateway.contract import AdapterType

_FIRST = ("device", "name", "adapter")
_OF_TEMPLATES = ("template", "parameters", "without")


def effective_device(
    folder: FilePath,
    device: str,
    *,
    adapters: Mapping[str, AdapterType] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The device's effective config as the text of a device file without a template; secrets stay references.

    `adapters` and `environment` as in `load_config`. Raises `ConfigProblems` when the config is wrong or has no such
    device.
    """
    config, devices = load_checked(folder, adapters=adapters, environment=environment)
    names = [checked.config.device for checked in devices]
    if device not in names:
        near = nearest(device, names)
        message = f'there is no device "{device}"' + (f', did you mean "{near}"?' if near else "")
        there = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise ConfigProblems([Problem.at(Place(str(folder / "devices")), message, f"devices: {there}")])
    place = names.index(device)
    return "".join(f"{line}\n" for line in _lines(devices[place].source, config.devices[place].identifiers))


def _lines(source: Source, identifiers: tuple[str | None, ...]) -> Iterator[str]:
    data = source.data
    yield f"# The effective config of {data['device']}: what its file and its template amount to."
    if data.get("parameters"):
        yield f"# parameters: {', '.join(f'{name}: {scalar(value)}' for name, value in _shown(source, 'parameters'))}"
    if data.get("without"):
        yield f"# without: {', '.join(data['without'])}"
    for key in (*_FIRST, *(each for each in data if each not in _FIRST)):
        if key in data and key not in (*_OF_TEMPLATES, *TABLES):
            place = source.locate((key,), key=True)
            origin = f"  # {place.file}:{place.line}" if isinstance(source, Overlay) else ""
            yield from flow_lines(f"{key}: ", _with_references(source, data[key], (key,)), origin)
    identifier = iter(identifiers)
    for table in TABLES:
        if points := data.get(table):
            yield f"{table}:"
            for index, point in enumerate(points):
                own = next(identifier)
                yield f"  # {_origin(source, table, index)}" + (f"; id {own}" if own else "")
                yield from flow_lines("  - ", _with_references(source, point, (table, index)))


def _shown(source: Source, key: str) -> Iterator[tuple[str, Any]]:
    yield from _with_references(source, source.data[key], (key,)).items()


def _origin(source: Source, table: str, index: int) -> str:
    if not isinstance(source, Overlay):
        return _at(source.locate((table, index)))
    template, own, changed = source.origin(table, index)
    if template is None:
        return _at(own)
    return _at(template) + (f", changed at {_at(own)} ({', '.join(changed)})" if own else "")


def _at(place: Place | None) -> str:
    return f"{place.file}:{place.line}" if place else ""


def _with_references(source: Source, value: Any, path: Path) -> Any:
    """`value` with references where secrets were put in."""
    if isinstance(value, dict):
        return {key: _with_references(source, each, (*path, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_references(source, each, (*path, index)) for index, each in enumerate(value)]
    return source.secret(path) or value
