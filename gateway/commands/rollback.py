"""`edge-gateway rollback`: back to a config that was applied before."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from gateway.commands import reload
from gateway.commands.equipment import OK
from gateway.commands.running import log_folder
from gateway.config.history import Applied, History, Snapshot
from gateway.contract import ConfigError
from gateway.control import NotRunningError
from gateway.rfc3339 import rfc3339

_S: Final = 1_000_000_000


def main(path: Path, back: int, *, only_list: bool, yes: bool) -> int:
    """Show the difference, write the files back, reload; returns 0, or what `reload` returns. Raises ConfigError."""
    folder = log_folder(path)
    history = History(folder)
    entries = list(history.entries())
    if only_list:
        sys.stdout.writelines(f"{_line(number, one)}\n" for number, one in enumerate(entries))
        return OK
    if not (path / "gateway.yaml").exists():
        raise ConfigError(f"{path}: the config's folder is needed here, to write the files back")
    present = Snapshot.of(path)
    # Files that were never applied are themselves the newest: one back from them is what was applied last.
    never = not entries or present.digest != entries[0].digest
    chosen = back - never
    if chosen >= len(entries):
        raise ConfigError(f"{len(entries)} applied configs are kept, 0 is the newest; see `rollback --list`")
    wanted = entries[chosen].snapshot
    lines = list(present.difference(wanted))
    if not lines:
        sys.stdout.write("the files are as they were then: nothing to write\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        if not yes and not _agreed(_line(chosen, entries[chosen])):
            return OK
        if never:
            history.add(present, time.time_ns())  # it would be lost
        wanted.write(path)
    try:
        return reload.main(path, as_json=False)
    except NotRunningError as error:
        sys.stdout.write(f"{error}\nthe next start takes it over\n")
        return OK


def _line(number: int, one: Applied) -> str:
    return f"{number:3}  {rfc3339(one.time // _S * _S)}  {one.digest[:12]}  {len(one.snapshot.files)} files"


def _agreed(line: str) -> bool:
    import typer  # noqa: PLC0415 - only where somebody can answer

    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to agree; --yes writes the files without asking")
    return typer.confirm(f"write back {line.strip()}?")
