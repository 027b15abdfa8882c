"""`python -m simulators.plant`: run the plant until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from simulators.plant.server import DEFAULT_PORTS, TICK_S, PlantServer


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m simulators.plant", description="A small simulated plant.")
    parser.add_argument(
        "--ports",
        nargs="*",
        default=[],
        metavar="NAME=PORT",
        help=f"other ports than {' '.join(f'{name}={port}' for name, port in DEFAULT_PORTS.items())}; 0 = a free one",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--tick", type=float, default=TICK_S, metavar="SECONDS", help="how often values change")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        ports = DEFAULT_PORTS | dict(parse_port(text) for text in args.ports)
        asyncio.run(run(ports, args.host, args.tick, args.seed))
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.exit(1, f"cannot listen: {error}; choose other ports with --ports NAME=PORT\n")


def parse_port(text: str) -> tuple[str, int]:
    """`meter-1=15021` as name and port. Raises ValueError."""
    name, _, port = text.partition("=")
    if name not in DEFAULT_PORTS or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--ports: expected NAME=PORT with NAME one of {', '.join(DEFAULT_PORTS)}, found {text!r}")
    return name, int(port)


async def run(ports: dict[str, int], host: str, tick_s: float, seed: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # not on Windows, where Ctrl-C raises KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with PlantServer(ports=ports, host=host, tick_s=tick_s, seed=seed) as plant:
        for name, url in plant.urls.items():
            print(f"{name:14} {url}")
        print(f"{'control':14} tcp://{host}:{plant.ports['control']}  (lines: status | DEVICE FAULT)", flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
