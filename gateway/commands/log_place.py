"""Where a log is, and what the times and names mean that somebody types beside it."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.config import load_config
from gateway.config.models import GatewayFile
from gateway.contract import ConfigError

_NS: Final = 1_000_000_000
_LIKENESS: Final = 0.6


class Place(NamedTuple):
    """The log that a command is about."""

    folder: Path
    zone: tzinfo
    """of times that are typed without one: the gateway's, UTC where only the log's folder is given"""
    config: GatewayFile | None = None


def place_of(path: Path) -> Place:
    """The log's folder itself, or what the config there says. Raises ConfigError."""
    if (path / "gateway.yaml").exists():
        file = load_config(path).gateway
        return Place(file.log.path, ZoneInfo(file.gateway.timezone), file)
    if path.is_dir():
        return Place(path, UTC)
    raise ConfigError(f"{path}: expected the log's folder or a config's folder, found neither")


def time_of(text: str | None, option: str, zone: tzinfo) -> int | None:
    """RFC 3339 (5.6), or a date, in `zone` where none is given; as ns since the Unix epoch. Raises ConfigError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        whole = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option}: expected a time like 2026-11-20T08:00:00+08:00, or a date, found {text!r}"
        ) from None
    return whole * _NS + moment.microsecond * 1000


def in_order(since: int | None, until: int | None) -> None:
    """Raises ConfigError when nothing can lie between."""
    if since is not None and until is not None and since >= until:
        raise ConfigError("--from: expected a time before --to, which itself is left out; turn them round?")


def local(time_ns: int, zone: tzinfo) -> str:
    """A time for people, to the second, in `zone` and with it."""
    return datetime.fromtimestamp(time_ns // _NS, zone).isoformat()


def names_like(wanted: Iterable[str], known: Iterable[str], option: str) -> list[str]:
    """The known names that are wanted, `*` and `?` standing for others. Raises ConfigError where there is none."""
    known = sorted(known)
    found: list[str] = []
    for pattern in wanted:
        matches = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ConfigError(f"{option}: {unknown(pattern, known)}")
        found += matches
    return sorted(set(found))


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is none of the known ones."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, _LIKENESS)
    if near:
        return f"{name!r} is not known, did you mean {near[0]!r}?"
    return f"{name!r} is not known; known are {', '.join(known) or 'none'}"
