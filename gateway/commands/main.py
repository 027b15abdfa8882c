"""The command `edge-gateway`. Each subcommand lives in a module of its own, imported when it is called.

`run` is dispatched before typer is imported: a gateway that runs for months holds no terminal library in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__

FAILED = 1
WRONG = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns 0 done, 1 failed, 2 the config or the arguments are wrong, 3 partly done."""
    try:
        return _run_subcommand(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run_subcommand(arguments: list[str]) -> int:
    # Imported here because it takes a third of a second, and Ctrl-C meanwhile must not end in a traceback.
    from gateway.contract import ConfigError, GatewayError  # noqa: PLC0415

    try:
        if len(arguments) == 2 and arguments[0] == "run" and not arguments[1].startswith("-"):
            from gateway.commands import run  # noqa: PLC0415 - only what is called is imported

            return run.main(Path(arguments[1]))
        if arguments == ["--version"]:
            sys.stdout.write(f"edge-gateway {__version__}\n")
            return 0
        from gateway.commands import cli  # noqa: PLC0415 - see above

        return cli.main(arguments)
    except ConfigError as error:
        return _fail(error, WRONG)
    except (GatewayError, OSError) as error:
        return _fail(error, FAILED)


def _fail(error: BaseException, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
