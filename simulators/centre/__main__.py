"""`python -m simulators.centre run|report`: subscribe and store, or say what is stored."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from simulators.centre.report import Report
from simulators.centre.schemas import DEFAULT_FOLDER
from simulators.centre.subscriber import Centre

POLL_S = 0.1


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m simulators.centre", description="A simulated centre.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="subscribe and store until interrupted")
    run.add_argument("--broker", required=True, metavar="URL", help="mqtt(s)://[user:password@]host:port")
    run.add_argument("--topic", default="iiot/v1/#")
    run.add_argument("--db", required=True, type=Path, metavar="FILE")
    run.add_argument("--schemas", type=Path, default=DEFAULT_FOLDER, metavar="DIR")
    run.add_argument("--client-id", default="centre")
    run.add_argument("--mqtt311", action="store_true", help="speak MQTT 3.1.1 instead of 5")
    run.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority of an mqtts broker")
    run.add_argument("--silent", action="store_true", help="answer nothing, even where a gateway wants confirmation")
    run.set_defaults(call=_run)
    report = commands.add_parser("report", help="say what is stored; exit 1 unless the account agrees exactly")
    report.add_argument("db", type=Path)
    report.add_argument("--json", action="store_true")
    report.set_defaults(call=_report)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        sys.exit(args.call(args))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


def _run(args: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    centre = Centre(
        args.broker,
        args.topic,
        args.db,
        schemas=args.schemas,
        client_id=args.client_id,
        mqtt311=args.mqtt311,
        ca=args.ca,
        confirm=not args.silent,
    )
    told = False
    with centre:
        while not stop.wait(POLL_S):
            centre.check()
            if centre.ready and not told:
                print(f"centre: {args.broker} {args.topic} -> {args.db}", flush=True)
                told = True  # whoever reads this line knows that nothing sent from now on is missed
    return 0


def _report(args: argparse.Namespace) -> int:
    with Report(args.db) as report:
        summary = report.summary()
    if args.json:
        print(json.dumps(summary, ensure_ascii=False, indent=1))
    else:
        _print(summary)
    return 0 if summary["exact"] and not (summary["conflicts"] or summary["errors"] or summary["missing"]) else 1


def _print(summary: dict[str, Any]) -> None:
    print(f"{summary['readings']} readings")
    for entry in summary["sources"]:
        print(
            f"  {entry['device']:20} {entry['stream']}  {entry['stored']} stored, {entry['first_n']} to "
            f"{entry['last_n']}, {entry['copies']} came twice"
        )
    for entry in summary["missing"]:
        print(f"  missing: {entry['device']} {entry['stream']} {entry['first']} to {entry['last']}")
    for gap in summary["gaps"]["not_filled"]:
        print(
            f"  gap: {gap['device']} {gap['stream']} {gap['reason']}, points that miss readings: {len(gap['missing'])}"
        )
    for kind, count in summary["errors"].items():
        print(f"  error: {kind} {count}")
    if summary["conflicts"]:
        print(f"  conflicts: {summary['conflicts']} offsets came with different content")
    for entry in summary["differences"]:
        print(f"  difference: {entry['device']} {entry['stream']} {entry['kind']}: {entry['detail']}")
    print("the account agrees to the reading" if summary["exact"] else "the account does not (yet) agree exactly")


if __name__ == "__main__":
    main()
