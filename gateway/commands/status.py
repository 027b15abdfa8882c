"""`edge-gateway status`: how the running gateway is, its devices, its destinations and its log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live

from gateway.commands.equipment import OK, write_json
from gateway.commands.running import log_folder
from gateway.commands.status_view import show
from gateway.control import Client

WATCH_S: Final = 2.0


def main(path: Path, *, as_json: bool, watch: bool, language: str) -> int:
    """Ask and print; returns 0. Raises NotRunningError, which says how to see why."""
    folder = log_folder(path)
    with Client(folder) as client:
        said = client.ask("status")
        if as_json:
            write_json(said)
        elif not watch:
            console = Console(soft_wrap=True, highlight=False)
            for part in show(said, language):
                console.print(part)
        else:
            with Live(_screen(said, language), screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(WATCH_S)
                    live.update(_screen(client.ask("status"), language), refresh=True)
    return OK


def _screen(said: dict[str, Any], language: str) -> RenderableType:
    return Group(*show(said, language))
