"""Arguments of every subcommand, by typer; the work is done in modules of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__
from gateway.commands import certs_cli, control_cli, log_cli, points_cli

app = typer.Typer(
    name="edge-gateway",
    help="Collects from OPC UA and Modbus, delivers over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(certs_cli.app, name="certs")
app.add_typer(log_cli.app, name="log")
control_cli.register(app)
app.add_typer(points_cli.app, name="points")

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
    plan: Annotated[bool, typer.Option("--plan", help="show what devices will be asked, request by request")] = False,
    connect: Annotated[bool, typer.Option("--connect", help="ask every point once; only reads")] = False,
    effective: Annotated[
        str | None, typer.Option("--effective", metavar="DEVICE", help="show a device with its template filled in")
    ] = None,
) -> None:
    """Find all that is wrong with a config; show what it amounts to."""
    from gateway.commands import check as command  # noqa: PLC0415 - only what is called is imported

    if effective is not None:
        raise typer.Exit(command.effective(config_dir, effective, as_json=json))
    raise typer.Exit(command.main(config_dir, as_json=json, plan=plan, connect=connect))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option("--seconds", min=1, help="run unattended for so long")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="a new folder for config, log and database")] = None,
) -> None:
    """Show plant, broker, gateway and centre on this machine."""
    from gateway.commands import demo as command  # noqa: PLC0415 - only what is called is imported

    raise typer.Exit(command.main(seconds, keep=keep))


Url = Annotated[str, typer.Argument(metavar="URL", help="the equipment, e.g. opc.tcp://192.168.1.30:4840")]
Security = Annotated[str, typer.Option("--security", help="None, or policy/mode as a device file writes it")]
Pki = Annotated[
    Path | None, typer.Option("--pki", metavar="DIR", help="folder of certificates, for a security other than None")
]
User = Annotated[str | None, typer.Option("--user", help="log in with this user name")]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", metavar="NAME", help="environment variable that holds the password")
]
InsecurePassword = Annotated[
    bool, typer.Option("--allow-insecure-password", help="send the password although nothing is encrypted")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=600, help="seconds to wait for each answer")]
Rate = Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="requests per second at most")]
Json = Annotated[bool, typer.Option("--json", help="report as JSON")]


@app.command()
def browse(  # noqa: PLR0913, PLR0917 - one for each option
    url: Url,
    endpoints: Annotated[bool, typer.Option("--endpoints", help="list the ways in; needs no login")] = False,
    root: Annotated[str | None, typer.Option("--root", metavar="NODE", help="begin here, not at Objects")] = None,
    path: Annotated[
        str | None, typer.Option("--path", help="only names like these below the root, e.g. 'Line1/**/Temp*'")
    ] = None,
    type: Annotated[list[str] | None, typer.Option("--type", help="only values of this type; may be repeated")] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="levels below the root")] = None,
    server: Annotated[bool, typer.Option("--server", help="with what the server says about itself")] = False,
    values: Annotated[bool, typer.Option("--values/--no-values", help="read current values")] = True,
    limit: Annotated[int, typer.Option("--limit", min=1, help="stop after so many nodes")] = 50_000,
    to_config: Annotated[
        Path | None, typer.Option("--to-config", metavar="FILE", help="write a device file, e.g. boiler-1.yaml")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the file of --to-config")] = False,
    security: Security = "None",
    pki: Pki = None,
    user: User = None,
    password_env: PasswordEnv = None,
    allow_insecure_password: InsecurePassword = False,
    timeout: Timeout = 5.0,
    rate: Rate = 20.0,
    json: Json = False,
) -> None:
    """Show what a server holds, from its URL alone; only reads."""
    from gateway.commands import browse as command  # noqa: PLC0415 - only what is called is imported
    from gateway.commands.equipment import password_for  # noqa: PLC0415 - see above
    from gateway.contract.tools import BrowseQuery, Target  # noqa: PLC0415 - see above

    password = None if endpoints else password_for(user, password_env)
    target = Target(url, security, user, password, allow_insecure_password, timeout, rate, str(pki) if pki else None)
    query = BrowseQuery(root, path, tuple(type or ()), depth, server, values, limit)
    code = command.main(
        target,
        query,
        endpoints=endpoints,
        to_config=to_config,
        force=force,
        password_env=password_env,
        as_json=json,
    )
    raise typer.Exit(code)


@app.command()
def read(  # noqa: PLR0913, PLR0917 - one for each option
    url: Url,
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="e.g. 'ns=2;s=Tank.Level', or 'holding 0'")],
    station: Annotated[int, typer.Option("--station", min=0, max=255, help="Modbus: the device's address")] = 1,
    expect: Annotated[float | None, typer.Option("--expect", help="Modbus: what the display shows now")] = None,
    low: Annotated[float | None, typer.Option("--low", help="Modbus: least plausible value")] = None,
    high: Annotated[float | None, typer.Option("--high", help="Modbus: greatest plausible value")] = None,
    security: Security = "None",
    pki: Pki = None,
    user: User = None,
    password_env: PasswordEnv = None,
    allow_insecure_password: InsecurePassword = False,
    timeout: Timeout = 5.0,
    rate: Rate = 20.0,
    json: Json = False,
) -> None:
    """Read values now and show each as a point of a device file; Modbus: in all types and byte orders. Only reads."""
    from gateway.commands.equipment import find_register_tools, password_for  # noqa: PLC0415 - only what is called

    if adapter := find_register_tools(url):
        from gateway.commands import registers  # noqa: PLC0415 - see above
        from gateway.contract.registers import Hint, Wire  # noqa: PLC0415 - see above

        wire, hint = Wire(url, timeout, rate), Hint(expect, low, high)
        raise typer.Exit(registers.main(adapter, wire, station, nodes, hint, as_json=json))
    from gateway.commands import read as command  # noqa: PLC0415 - see above
    from gateway.contract.tools import Target  # noqa: PLC0415 - see above

    password = password_for(user, password_env)
    target = Target(url, security, user, password, allow_insecure_password, timeout, rate, str(pki) if pki else None)
    raise typer.Exit(command.main(target, nodes, as_json=json))


@app.command()
def scan(
    url: Annotated[str, typer.Argument(metavar="URL", help="e.g. tcp://192.168.1.20:502")],
    stations: Annotated[str, typer.Option("--stations", metavar="LIST", help="addresses to ask, e.g. 1-10,17")],
    range: Annotated[list[str], typer.Option("--range", help="what may be read, e.g. 'holding 0-99'; repeatable")],
    without: Annotated[
        list[str] | None, typer.Option("--without", help="what must not be read, e.g. 'holding 40'; repeatable")
    ] = None,
    only_master: Annotated[
        bool, typer.Option("--only-master", help="nobody else asks on this line now; needed on lines and modems")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.05, max=60, help="seconds to wait for an answer")] = 1.0,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="requests per second at most")] = 5.0,
    json: Json = False,
) -> None:
    """Find out which Modbus stations answer and which registers they let be read; only reads."""
    from gateway.commands import scan as command  # noqa: PLC0415 - only what is called is imported
    from gateway.contract.registers import ScanQuery, Wire  # noqa: PLC0415 - see above

    query = ScanQuery(command.stations_of(stations), tuple(range), tuple(without or ()), only_master)
    raise typer.Exit(command.main(Wire(url, timeout, rate), query, as_json=json))
