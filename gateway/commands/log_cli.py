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
