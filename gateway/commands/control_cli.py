"""Arguments of the commands that talk to the running gateway; the work is done in modules of their own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="CONFIG_DIR", help="the config's folder, or the log's")]
Devices = Annotated[list[str] | None, typer.Argument(metavar="DEVICE...", help="names of devices")]
All = Annotated[bool, typer.Option("--all", help="every device")]
Json = Annotated[bool, typer.Option("--json", help="report as JSON")]


class Language(StrEnum):
    """Of what is printed for people."""

    EN = "en"
    ZH = "zh"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, tail, pause, resume, reload, diff, rollback):
        app.command()(command)


def status(
    config_dir: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="show it again and again until Ctrl-C")] = False,
    lang: Annotated[Language, typer.Option("--lang", help="language of the words")] = Language.EN,
    json: Json = False,
) -> None:
    """Show how the running gateway is: devices, destinations, log."""
    from gateway.commands import status as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, as_json=json, watch=watch, language=lang.value))


def tail(
    config_dir: Folder,
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    points: Annotated[list[str] | None, typer.Argument(metavar="POINT...", help="names or tags; none: all")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="end after so many readings")] = None,
    json: Json = False,
) -> None:
    """Print a device's readings as they come."""
    from gateway.commands import tail as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, device, points or [], limit=limit, as_json=json))


def pause(config_dir: Folder, devices: Devices = None, all: All = False, json: Json = False) -> None:
    """Send nothing to devices any more, until resumed; also after a restart."""
    from gateway.commands import running as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.pause(config_dir, devices or [], all_of_them=all, as_json=json))


def resume(config_dir: Folder, devices: Devices = None, all: All = False, json: Json = False) -> None:
    """Have paused devices be asked again."""
    from gateway.commands import running as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.resume(config_dir, devices or [], all_of_them=all, as_json=json))


def reload(config_dir: Folder, json: Json = False) -> None:
    """Have the running gateway take over its changed config; only what changed is restarted."""
    from gateway.commands import reload as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, as_json=json))


def diff(config_dir: Folder, json: Json = False) -> None:
    """Show what a reload would do, and what has been written since the last config that was applied."""
    from gateway.commands import reload as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.diff(config_dir, as_json=json))


def rollback(
    config_dir: Folder,
    back: Annotated[int, typer.Argument(metavar="N", min=1, help="how many applied configs back")] = 1,
    list: Annotated[bool, typer.Option("--list", help="only show which there are")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Write an earlier config back into CONFIG_DIR, after showing the difference, and reload."""
    from gateway.commands import rollback as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, back, only_list=list, yes=yes))
