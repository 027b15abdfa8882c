"""Arguments of `edge-gateway log ...`, by typer; the work is done in modules of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="log", help="The log on this box.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def parked(
    config_dir: Annotated[Path, typer.Argument(metavar="CONFIG_DIR", help="the folder with gateway.yaml and devices/")],
    destination: Annotated[str | None, typer.Option("--destination", help="of this destination alone")] = None,
    resend: Annotated[
        bool, typer.Option("--resend", help="let the gateway send them again, now or when it runs")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """List what brokers refused for good, with the reason; send it again once that is mended."""
    from gateway.commands import log_parked as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, destination, resend=resend, as_json=json))


@app.command()
def replay(
    config_dir: Annotated[Path, typer.Argument(metavar="CONFIG_DIR", help="the folder with gateway.yaml and devices/")],
    destination: Annotated[str | None, typer.Option("--destination", help="to this destination")] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="from here on, e.g. 2026-11-20T08:00:00+08:00")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="up to here, itself left out")] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", help="of this device alone; repeatable, * and ? stand for others")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="the time that is meant: source or received")] = "source",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how many readings it would be")] = False,
    list_: Annotated[bool, typer.Option("--list", help="show what was asked for and how far it is")] = False,
    cancel: Annotated[int | None, typer.Option("--cancel", metavar="ID", help="end a replay")] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Have a destination be sent the readings of a time range again, in lane replay, behind everything else."""
    from gateway.commands import log_replay as command  # noqa: PLC0415 - only what is called is imported
    from gateway.contract import ConfigError  # noqa: PLC0415 - see above

    asked = command.Asked(destination, since, until, tuple(device or ()), by, dry_run)
    if list_ or cancel is not None:
        if asked != command.Asked(destination) or (list_ and cancel is not None):
            raise ConfigError("--list and --cancel: each stands alone, --list with --destination at most")
        if cancel is not None:
            raise typer.Exit(command.main_cancel(config_dir, cancel, as_json=json))
        raise typer.Exit(command.main_list(config_dir, destination, as_json=json))
    raise typer.Exit(command.main(config_dir, asked, as_json=json))


Place = Annotated[Path, typer.Argument(metavar="DIR|CONFIG_DIR", help="the log's folder, or the config's")]
Json = Annotated[bool, typer.Option("--json", help="report as JSON")]
Device = Annotated[str | None, typer.Option("--device", help="of this device alone; * and ? stand for others")]
Point = Annotated[
    str | None, typer.Option("--point", help="of this point (name or 位号) alone; * and ? stand for others")
]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="from here on, e.g. 2026-11-20T08:00:00Z")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="up to here, itself left out")]
By = Annotated[str, typer.Option("--by", help="the time that is meant: source or received")]


@app.command()
def status(place: Place, json: Json = False) -> None:
    """Show what the log holds: positions, size, times, readings of each device, what destinations wait for."""
    from gateway.commands import log_status as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_status(place, as_json=json))


@app.command()
def verify(place: Place, json: Json = False) -> None:
    """Check every checksum in the log; exit code 1 when something is damaged, and where."""
    from gateway.commands import log_status as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_verify(place, as_json=json))


@app.command("list")
def list_(
    place: Place,
    device: Device = None,
    point: Point = None,
    since: Since = None,
    until: Until = None,
    by: By = "source",
    limit: Annotated[int, typer.Option("--limit", min=1, help="stop after so many")] = 100,
    json: Json = False,
) -> None:
    """Show readings of the log, oldest first."""
    from gateway.commands import log_export as command  # noqa: PLC0415 - only what is called is imported
    from gateway.commands.log_query import Asked  # noqa: PLC0415 - see above

    asked = Asked(device, point, since, until, by)
    raise typer.Exit(command.main_list(place, asked, limit, as_json=json))


@app.command()
def export(
    place: Place,
    device: Device = None,
    point: Point = None,
    since: Since = None,
    until: Until = None,
    by: By = "source",
    format: Annotated[str, typer.Option("--format", help="csv, jsonl or parquet")] = "csv",
    events: Annotated[bool, typer.Option("--events", help="events instead of readings")] = False,
    excel: Annotated[
        bool, typer.Option("--excel", help="csv with local times and signs that spreadsheets know")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="a new file, else standard output")] = None,
) -> None:
    """Write readings or events of the log as CSV, JSON lines or Parquet."""
    from gateway.commands import log_export as command  # noqa: PLC0415 - only what is called is imported
    from gateway.commands.log_query import Asked  # noqa: PLC0415 - see above

    asked = Asked(device, point, since, until, by)
    raise typer.Exit(command.main_export(place, asked, command.Output(format, output, events, excel)))
