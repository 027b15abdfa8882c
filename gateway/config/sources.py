"""Where a device's keys come from: its own file, or a template under it. Messages point into the right one."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.config.problems import Path, Place
from gateway.config.yaml import Document


class Source(Protocol):
    """Data to be checked, with the place of everything in it."""

    @property
    def data(self) -> Any:
        """Plain dicts, lists and scalars."""
        ...

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Place of the value at `path` or of its key, else of the nearest thing around it."""
        ...

    def raw(self, path: Path) -> str | None:
        """The scalar at `path` as it was written."""
        ...

    def secret(self, path: Path) -> str | None:
        """The reference that stood at `path`, when a secret was put in there."""
        ...


class Plain:
    """One file by itself."""

    def __init__(self, document: Document) -> None:
        self.data = document.data
        self._document = document

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """See `Source.locate`."""
        return self._document.locate(path, key=key)

    def raw(self, path: Path) -> str | None:
        """See `Source.raw`."""
        return self._document.raw(path)

    def secret(self, path: Path) -> str | None:
        """See `Source.secret`."""
        return self._document.secrets.get(path)


class Overlay:
    """A device file over a template: groups of keys are merged, points are matched by their name.

    A point in the device file adds to or replaces keys of the template's point with that name, else follows the
    template's points.
    """

    def __init__(self, device: Document, template: Document) -> None:
        self._device = device
        self._template = template
        self._origins: list[tuple[int | None, int | None]] = []
        self.data: dict[str, Any] = _merge(template.data, device.data)
        theirs, ours = template.data.get("points"), device.data.get("points")
        if isinstance(theirs, list) and (isinstance(ours, list) or "points" not in device.data):
            self.data["points"] = self._points(theirs, ours or [])

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """See `Source.locate`."""
        document, inner = self._find(path)
        return document.locate(inner, key=key)

    def raw(self, path: Path) -> str | None:
        """See `Source.raw`."""
        document, inner = self._find(path)
        return document.raw(inner)

    def secret(self, path: Path) -> str | None:
        """See `Source.secret`."""
        document, inner = self._find(path)
        return document.secrets.get(inner)

    def _points(self, theirs: list[Any], ours: list[Any]) -> list[Any]:
        waiting: dict[Any, list[int]] = {}
        for index, point in enumerate(ours):
            if isinstance(point, dict) and isinstance(name := point.get("point"), str):
                waiting.setdefault(name, []).append(index)
        merged: list[Any] = []
        used: set[int] = set()
        for index, point in enumerate(theirs):
            matches = waiting.get(point.get("point")) if isinstance(point, dict) else None
            if matches and matches[0] not in used:
                used.add(matches[0])
                merged.append(point | ours[matches[0]])
                self._origins.append((index, matches[0]))
            else:
                merged.append(point)
                self._origins.append((index, None))
        for index, point in enumerate(ours):
            if index not in used:
                merged.append(point)
                self._origins.append((None, index))
        return merged

    def _find(self, path: Path) -> tuple[Document, Path]:
        in_device: Path | None = path
        in_template: Path | None = path
        if self._origins and len(path) > 1 and path[0] == "points" and isinstance(path[1], int):
            theirs, ours = self._origins[path[1]]
            in_device = None if ours is None else ("points", ours, *path[2:])
            in_template = None if theirs is None else ("points", theirs, *path[2:])
        if in_device is not None and (in_template is None or self._device.has(in_device)):
            return self._device, in_device
        if in_template is not None and (in_device is None or self._template.has(in_template)):
            return self._template, in_template
        return self._device, in_device or path


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
