"""Arguments of `edge-gateway certs`; the work is done in `certs`, imported when a subcommand is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Show and decide which server certificates are trusted; hand out and renew our own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Pki = Annotated[
    Path | None, typer.Option("--pki", metavar="DIR", help="connection.pki of the devices, if they name another folder")
]
Json = Annotated[bool, typer.Option("--json", help="report as JSON")]
Fingerprint = Annotated[str, typer.Argument(metavar="FINGERPRINT", help="SHA-256, or its first 16 digits or more")]


@app.command("list")
def list_(pki: Pki = None, json: Json = False) -> None:
    """Show our certificate and those of servers, trusted and rejected."""
    from gateway.commands import certs as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_list(pki, as_json=json))


@app.command()
def trust(
    fingerprint: Annotated[
        str | None, typer.Argument(metavar="[FINGERPRINT]", help="SHA-256 of a rejected certificate")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="a certificate from elsewhere (DER or PEM)")] = None,
    pki: Pki = None,
    json: Json = False,
) -> None:
    """Trust a server certificate that was rejected, or one from a file."""
    from gateway.commands import certs as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_trust(fingerprint, file, pki, as_json=json))


@app.command()
def reject(fingerprint: Fingerprint, pki: Pki = None, json: Json = False) -> None:
    """Trust a server certificate no more."""
    from gateway.commands import certs as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_reject(fingerprint, pki, as_json=json))


@app.command()
def export(
    which: Annotated[
        str | None, typer.Argument(metavar="[FINGERPRINT|next]", help="another certificate than our own")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a file; .pem and .crt are PEM, others DER")
    ] = None,
    pki: Pki = None,
) -> None:
    """Write our certificate, which servers have to trust; never its key."""
    from gateway.commands import certs as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_export(which, output, pki))


@app.command()
def renew(
    finish: Annotated[bool, typer.Option("--finish", help="make the prepared certificate the only one")] = False,
    pki: Pki = None,
    json: Json = False,
) -> None:
    """Prepare our next certificate; devices change to it one by one, when their servers accept it."""
    from gateway.commands import certs as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main_renew(pki, finish=finish, as_json=json))
