"""Configs as they were applied: the last twenty are kept with time and hash in the folder of the log."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.rfc3339 import from_rfc3339, rfc3339

_FILES: Final = "config-*.json"
KEPT: Final = 20
_PLACES: Final = ("devices", "templates")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a config folder: text by path with "/", such as devices/boiler-1.yaml."""

    files: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> Snapshot:
        """As they are now; what is no UTF-8 cannot be a part of a config. Raises OSError."""
        found = [folder / "gateway.yaml"] if (folder / "gateway.yaml").is_file() else []
        for place in _PLACES:
            found += sorted((folder / place).glob("*.yaml"))
        files = {}
        for file in found:
            with contextlib.suppress(UnicodeDecodeError):
                files[file.relative_to(folder).as_posix()] = file.read_bytes().decode()
        return cls(files)

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents, in hexadecimal."""
        whole = hashlib.sha256()
        for name, text in sorted(self.files.items()):
            content = text.encode()
            whole.update(f"{name}\0{len(content)}\0".encode() + content)
        return whole.hexdigest()

    def write(self, folder: Path) -> None:
        """Make the folder hold these files and no other ones of a config. Raises OSError."""
        for name in Snapshot.of(folder).files.keys() - self.files.keys():
            (folder / name).unlink()
        for name, text in self.files.items():
            content = text.encode()
            file = folder / name
            if file.is_file() and file.read_bytes() == content:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_name(f".{file.name}.new")
            fresh.write_bytes(content)
            fresh.replace(file)

    def difference(self, after: Snapshot) -> Iterator[str]:
        """Lines of a unified diff from these files to `after`."""
        for name in sorted(self.files.keys() | after.files.keys()):
            old, new = self.files.get(name, ""), after.files.get(name, "")
            if old != new:
                yield from difflib.unified_diff(
                    old.splitlines(), new.splitlines(), f"a/{name}", f"b/{name}", "", "", 2, ""
                )


@dataclass(frozen=True, slots=True)
class Applied:
    """One that was applied."""

    time: int
    """ns since the epoch"""
    digest: str
    snapshot: Snapshot


class History:
    """The configs kept in one log's folder, newest first."""

    def __init__(self, log_folder: Path) -> None:
        self._folder = log_folder

    def newest(self) -> Applied | None:
        """The one applied last, if any can be read."""
        return next(self.entries(), None)

    def entries(self) -> Iterator[Applied]:
        """All that can be read, newest first."""
        for file in sorted(self._folder.glob(_FILES), reverse=True):
            try:
                content: dict[str, Any] = orjson.loads(file.read_bytes())
                yield Applied(from_rfc3339(content["time"]), content["digest"], Snapshot(content["files"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def add(self, snapshot: Snapshot, now: int) -> None:
        """Keep one more, unless it is the newest already, and let the oldest go. Raises OSError."""
        newest = self.newest()
        if newest is not None and newest.digest == snapshot.digest:
            return
        last = max((int(file.name.split("-")[1]) for file in self._folder.glob(_FILES)), default=0)
        file = self._folder / f"config-{last + 1:08d}-{snapshot.digest[:12]}.json"
        content = {"time": rfc3339(now), "digest": snapshot.digest, "files": dict(snapshot.files)}
        fresh = file.with_suffix(".new")
        with open(fresh, "wb", opener=_private) as opened:
            opened.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        fresh.replace(file)
        for old in sorted(self._folder.glob(_FILES))[:-KEPT]:
            old.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
