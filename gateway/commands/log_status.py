"""`edge-gateway log status` and `log verify`: what the log holds and whether it is whole, beside a running gateway."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.commands.equipment import OK, write_json
from gateway.config import load_config
from gateway.config.quantities import size_text
from gateway.contract import ConfigError
from gateway.log import DataFile, LogView, glance
from gateway.log.records import Series
from gateway.rfc3339 import rfc3339

DAMAGED = 1


def folder_of(place: Path) -> Path:
    """The log's folder: `place` itself, or what the config there says. Raises ConfigError."""
    if (place / "gateway.yaml").exists():
        return load_config(place).gateway.log.path
    if place.is_dir():
        return place
    raise ConfigError(f"{place}: expected the log's folder or a config's folder, found neither")


def main_status(place: Path, *, as_json: bool = False) -> int:
    """Show positions, size, times, readings and destinations; returns 0. Raises ConfigError, LogError."""
    folder = folder_of(place)
    with LogView(folder) as view:
        report = _report(view)
    if as_json:
        write_json(report)
    else:
        sys.stdout.write(_in_words(report))
    return OK


def main_verify(place: Path, *, as_json: bool = False) -> int:
    """Check every checksum; returns 0, or 1 when something is damaged. Raises ConfigError, LogError."""
    with LogView(folder_of(place)) as view:
        found = list(view.verify(_tell))
        positions, files = view.end - view.files[0].first, len(view.files)
    if as_json:
        write_json({"ok": not found, "files": files, "damage": [one._asdict() for one in found]})
    else:
        for one in found:
            where = one.file if one.position is None else f"{one.file}, position {one.position}"
            sys.stdout.write(f"{where}: {one.what}\n")
        verdict = f"{len(found)} damaged" if found else "whole"
        sys.stdout.write(f"{files} files, {positions:,} positions: {verdict}\n")
    return DAMAGED if found else OK


def _tell(file: DataFile) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{file.path.name}  {size_text(file.bytes)}\n")


def _report(view: LogView) -> dict[str, Any]:
    readings: Counter[str] = Counter()
    for series, n in view.next_n.items():
        readings[series.device] += n - view.first_n.get(series, 0)
    times = view.commit_times()
    return {
        "path": str(view.folder),
        "positions": {"first": view.files[0].first, "end": view.end},
        "files": len(view.files),
        "files_in_blocks": sum(file.in_blocks for file in view.files),
        "bytes": sum(file.bytes for file in view.files),
        "from": rfc3339(times[0]) if times else None,
        "to": rfc3339(times[1]) if times else None,
        "readings": {device: count for device, count in sorted(readings.items()) if count},
        "destinations": _destinations(view),
        "damage": [one._asdict() for one in view.damage],
    }


def _destinations(view: LogView) -> list[dict[str, Any]]:
    """As last saved: a running gateway knows more."""
    found = []
    for key, state in glance(view.folder / "state.db", "destination/").items():
        waiting = parked = 0
        for stream, device, first_n, next_n, _, _, delivered, withheld, set_aside, dropped in state["accounts"]:
            known = max(next_n, view.next_n.get(Series(stream, device), 0))
            waiting += known - first_n - delivered - withheld - set_aside - sum(dropped.values())
            parked += set_aside
        found.append({"name": key.partition("/")[2], "waiting": waiting, "parked": parked, "ranges": state["ranges"]})
    return found


def _in_words(report: dict[str, Any]) -> str:
    positions = report["positions"]
    lines = [
        f"{report['path']}: positions {positions['first']} to {positions['end'] - 1}, {size_text(report['bytes'])} in "
        f"{report['files']} files, {report['files_in_blocks']} of them in blocks",
        f"  committed from {report['from'] or '-'} to {report['to'] or '-'}",
    ]
    lines += [f"  {device}: {count:,} readings" for device, count in report["readings"].items()]
    lines += [
        f"  destination {one['name']}: {one['waiting']:,} waiting, {one['parked']:,} parked (as last saved)"
        for one in report["destinations"]
    ]
    lines += [f"  damaged: {one['file']}: {one['what']}" for one in report["damage"]]
    return "\n".join(lines) + "\n"
