"""`edge-gateway log status` and `log verify`: what the log holds and whether it is whole, beside a running gateway."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from gateway.commands.equipment import OK, write_json
from gateway.commands.log_place import place_of
from gateway.commands.log_progress import Progress
from gateway.commands.log_replay import line
from gateway.commands.log_replay import report as replay_report
from gateway.config.quantities import size_text
from gateway.log import DataFile, LogView, glance
from gateway.log.records import EVENTS_DEVICE, Series
from gateway.publishing.replays import OPEN, PREFIX, Replay
from gateway.rfc3339 import rfc3339

DAMAGED = 1
_COUNTS: Final = ("accepted", "delivered", "waiting", "parked", "withheld", "dropped")


def main_status(path: Path, *, as_json: bool = False) -> int:
    """Show positions, size, times, readings, destinations and replays; returns 0. Raises ConfigError, LogError."""
    place = place_of(path)
    with LogView(place.folder) as view:
        report = _report(view)
        replays = [Replay.from_state(key, one) for key, one in glance(view.folder / "state.db", PREFIX).items()]
    if as_json:
        write_json(report | {"replays": [replay_report(one) for one in replays if one.state in OPEN]})
    else:
        sys.stdout.write(_in_words(report))
        sys.stdout.writelines(f"  {line(one, place.zone)}\n" for one in replays if one.state in OPEN)
    return OK


def main_verify(path: Path, *, as_json: bool = False) -> int:
    """Check every checksum; returns 0, or 1 when something is damaged. Raises ConfigError, LogError."""
    with LogView(place_of(path).folder) as view:
        progress = Progress(view.files[0].first, view.end)
        names = [""]

        def told(file: DataFile) -> None:
            names[:] = [f"{file.path.name}, {size_text(file.bytes)}"]

        found = list(view.verify(told, lambda position: progress.show(position, names[0])))
        progress.clear()
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
        "before": sum(view.first_n.values()),
        "readings": {device: count for device, count in sorted(readings.items()) if count},
        "destinations": _destinations(view),
        "damage": [one._asdict() for one in view.damage],
    }


def _destinations(view: LogView) -> list[dict[str, Any]]:
    """As last saved: a running gateway knows more."""
    found = []
    for key, state in glance(view.folder / "state.db", "destination/").items():
        counts = Counter(dict.fromkeys(_COUNTS, 0))
        for stream, device, first_n, next_n, _, _, delivered, withheld, parked, dropped, *_ in state["accounts"]:
            accepted = max(next_n, view.next_n.get(Series(stream, device), 0)) - first_n
            lost = sum(dropped.values())
            waiting = accepted - delivered - withheld - parked - lost
            for name, count in zip(_COUNTS, (accepted, delivered, waiting, parked, withheld, lost), strict=True):
                counts[name] += count
        found.append({"name": key.partition("/")[2], **counts, "ranges": state["ranges"], "ended": state.get("ended")})
    return found


def _in_words(report: dict[str, Any]) -> str:
    positions = report["positions"]
    lines = [
        f"{report['path']}: positions {positions['first']} to {positions['end'] - 1}, {size_text(report['bytes'])} in "
        f"{report['files']} files, {report['files_in_blocks']} of them in blocks",
        f"  committed from {report['from'] or '-'} to {report['to'] or '-'}",
    ]
    if report["before"]:
        lines.append(f"  {report['before']:,} older readings and events have left it")
    for device, count in report["readings"].items():
        lines.append(f"  {count:,} events" if device == EVENTS_DEVICE else f"  {device}: {count:,} readings")
    lines += [f"  {_destination_in_words(one)}" for one in report["destinations"]]
    lines += [f"  damaged: {one['file']}: {one['what']}" for one in report["damage"]]
    return "\n".join(lines) + "\n"


def _destination_in_words(one: dict[str, Any]) -> str:
    shown = ", ".join(f"{one[name]:,} {name}" for name in _COUNTS[1:] if one[name] or name in {"delivered", "waiting"})
    end = f"; no longer configured since {one['ended']}" if one["ended"] else ""
    return f"destination {one['name']}: of {one['accepted']:,} accepted {shown} (as last saved){end}"
