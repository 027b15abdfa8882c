"""Arguments of every subcommand, by typer; the work is done in modules of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__

app = typer.Typer(
    name="edge-gateway",
    help="Collects from OPC UA and Modbus, delivers over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigDir = Annotated[Path, typer.Argument(metavar="CONFIG_DIR", help="the folder with gateway.yaml and devices/")]


def main(arguments: Sequence[str]) -> int:
    """Parse and run; returns the exit code, 2 for wrong arguments."""
    try:
        code = app(list(arguments), standalone_mode=True)
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else 0


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="show the version and leave")] = False) -> None:
    if version:
        typer.echo(f"edge-gateway {__version__}")
        raise typer.Exit


@app.command()
def run(config_dir: ConfigDir) -> None:
    """Run the gateway until it is told to stop."""
    from gateway.commands import run as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir))


@app.command()
def check(
    config_dir: ConfigDir,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Find all that is wrong with a config; show what it amounts to."""
    from gateway.commands import check as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(config_dir, as_json=json))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option("--seconds", min=1, help="run unattended for so long")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="a new folder for config, log and database")] = None,
) -> None:
    """Show plant, broker, gateway and centre on this machine."""
    from gateway.commands import demo as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(seconds, keep=keep))
