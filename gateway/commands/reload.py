"""`edge-gateway reload` and `diff`: a changed config on the running gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.commands.equipment import OK, write_json
from gateway.commands.running import log_folder
from gateway.config.history import History, Snapshot
from gateway.control import NotRunningError, ask

WRONG: Final = 2
RELOAD_S: Final = 120.0


def main(path: Path, *, as_json: bool) -> int:
    """Reload; returns 0, or 2 when the new config was refused and the former stays. Raises NotRunningError."""
    outcome = ask(log_folder(path), "reload", RELOAD_S)
    if as_json:
        write_json(outcome)
    else:
        sys.stdout.writelines(f"{problem}\n" for problem in outcome["problems"])
        sys.stdout.write(f"{outcome['outcome']}\n")
    return OK if outcome["ok"] else WRONG


def diff(path: Path, *, as_json: bool) -> int:
    """Show what a reload would do, and the text that changed since the last applied config; returns 0.

    Returns 2 when it would be refused. Without a running gateway only the text is shown.
    """
    folder = log_folder(path)
    newest = History(folder).newest()
    text = [] if newest is None else list(newest.snapshot.difference(Snapshot.of(path)))
    try:
        found = ask(folder, "diff", RELOAD_S)
    except NotRunningError as error:
        found = None
        sys.stderr.write(f"{error}\n")
    if as_json:
        write_json({"reload": found, "text": text})
    else:
        sys.stdout.writelines(f"{line}\n" for line in (*_in_words(found), *text))
    return OK if found is None or found["ok"] else WRONG


def _in_words(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        return
    if not found["ok"]:
        yield "a reload would be refused:"
        yield from (f"  {problem}" for problem in (*found["problems"], *found.get("impossible", ())))
        return
    lines = [line for kind in ("device", "destination") for line in _of(kind, found[f"{kind}s"])]
    if not lines:
        yield "a reload would restart nothing"
        return
    yield "a reload would"
    yield from lines


def _of(kind: str, one: Mapping[str, Any]) -> Iterator[str]:
    for name in one["added"]:
        yield f"  start {kind} {name}"
    for name in one["removed"]:
        yield f"  end {kind} {name}"
    for name, lines in one["changed"].items():
        yield f"  restart {kind} {name}"
        yield from (f"    {line}" for line in lines)
