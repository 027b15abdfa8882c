"""Arguments of `edge-gateway points`; the work is done in `points`, imported when a subcommand is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Point tables (点表): Excel and CSV to and from device files; other names for points.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConfigDir = Annotated[Path, typer.Argument(metavar="CONFIG_DIR", help="the folder with gateway.yaml and devices/")]
Json = Annotated[bool, typer.Option("--json", help="report as JSON")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a table as .xlsx, .xls, .ods or .csv")],
    config_dir: ConfigDir,
    device: Annotated[
        str | None, typer.Option("--device", help="the table is of this device; else sheets name theirs")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="write the changes; without it they are only shown")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="take out points that are not in the table")] = False,
    base: Annotated[
        int, typer.Option("--base", min=0, max=1, help="numbers beside a function code count from 0 or from 1")
    ] = 0,
    order: Annotated[
        str | None, typer.Option("--order", help="byte order of 32 and 64 bits where the table names none")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="a new device: how it is reached")] = None,
    station: Annotated[
        int | None, typer.Option("--station", min=0, max=255, help="a new Modbus device: its address")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="show every change, not only the first of each kind")] = False,
    json: Json = False,
) -> None:
    """Compare a point table with the config, and write what is different with --apply."""
    from gateway.commands import points as command  # noqa: PLC0415 - only what is called is imported

    wanted = command.Wanted(file, config_dir, device, base, order, url, station)
    raise typer.Exit(command.main_import(wanted, apply=apply, remove=remove, all=all, as_json=json))


@app.command()
def export(
    config_dir: ConfigDir,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="a file: .xlsx, or .csv")],
    device: Annotated[str | None, typer.Option("--device", help="only this device")] = None,
    lang: Annotated[str, typer.Option("--lang", help="headings: zh or en")] = "zh",
    force: Annotated[bool, typer.Option("--force", help="replace the file")] = False,
) -> None:
    """Write the points of the config as a table, one sheet for each device."""
    from gateway.commands import points as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_export(config_dir, output, device, lang, force=force))


@app.command()
def rename(
    config_dir: ConfigDir,
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    old: Annotated[str, typer.Argument(metavar="OLD", help="the point's local name, or its plant tag (位号)")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="its local name from now on")],
    apply: Annotated[bool, typer.Option("--apply", help="write the change; without it it is only shown")] = False,
) -> None:
    """Give a point another local name; its identifier stays."""
    from gateway.commands import points as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_rename(config_dir, device, old, new, apply=apply))
