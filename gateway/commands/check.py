"""`edge-gateway check CONFIG_DIR`: everything that is wrong with a config, and what it amounts to."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.commands import check_connect
from gateway.config import ConfigProblems, LoadedConfig, Problem
from gateway.config.cross import CheckedDevice
from gateway.config.effective import effective_device
from gateway.config.load import load_checked
from gateway.config.quantities import days_text, duration_text, size_text
from gateway.log.forecast import rate_of_points, recent_rate
from gateway.log.records import Labels
from gateway.log.storage import budget_bytes, commit_default_s, kind_of
from gateway.publishing.clearance import rule_of

OK = 0
FAILED = 1
WRONG = 2
PARTLY = 3


def main(config_dir: Path, *, as_json: bool = False, plan: bool = False, connect: bool = False) -> int:
    """Check and report; returns 0 (warnings allowed) or 2 (the config is wrong).

    `plan`: say also what devices will be asked, request by request. `connect`: ask every point of every device once;
    then 1 says that no device was reached, and 3 that some device or point does not answer as it should.
    """
    config: LoadedConfig | None = None
    devices: Sequence[CheckedDevice] = ()
    try:
        config, devices = load_checked(config_dir)
        problems = config.warnings
    except ConfigProblems as error:
        problems = error.problems
    summary = _summary(config) if config else None
    if as_json:
        report = {"ok": config is not None, "problems": [p.as_dict() for p in problems], "summary": summary}
        if plan and config:
            report["plan"] = config.load.text
    else:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems))
        sys.stdout.write(_in_words(summary) if summary else _refusal(problems))
        if plan and config:
            sys.stdout.write("".join(f"{line}\n" for line in ("plan:", *config.load.text)))
        sys.stdout.flush()
    tried = check_connect.try_all(devices) if connect and config else []
    if as_json:
        report |= {"connect": check_connect.report(tried)} if connect and config else {}
        sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in check_connect.in_words(tried)))
    return _code(tried) if config else WRONG


def _code(tried: Sequence[check_connect.Tried]) -> int:
    if all(each.good for each in tried):
        return OK
    return PARTLY if any(each.trial.problem is None for each in tried) else FAILED


def effective(config_dir: Path, device: str, *, as_json: bool = False) -> int:
    """Print a device's effective config as a device file; returns 0, or 2 when the config is wrong."""
    try:
        text = effective_device(config_dir, device)
    except ConfigProblems as error:
        if as_json:
            report = {"ok": False, "problems": [problem.as_dict() for problem in error.problems]}
            sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        else:
            sys.stderr.write(f"{error}\n")
        return WRONG
    if as_json:
        text = json.dumps({"ok": True, "device": device, "file": text}, ensure_ascii=False, indent=2) + "\n"
    sys.stdout.write(text)
    return OK


def _summary(config: LoadedConfig) -> dict[str, Any]:
    points: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    streams: Counter[Labels] = Counter()
    for device in config.devices:
        devices[device.adapter.name] += 1
        points[device.adapter.name] += len(device.config.points)
        streams.update(device.labels)
    log, destinations = config.gateway.log, config.gateway.destinations
    path = log.path.absolute()
    kind = kind_of(path)
    measured = recent_rate(path) if path.is_dir() else None
    rate = measured or rate_of_points(points.total(), kind)
    budget = budget_bytes(path, "auto" if log.budget is None else log.budget, used=rate.used)
    return {
        "gateway": config.gateway.gateway.id,
        "adapters": {name: {"devices": devices[name], "points": points[name]} for name in sorted(devices)},
        "wires": config.load.wires,
        "identified_points": sum(identifier is not None for each in config.devices for identifier in each.identifiers),
        "points": points.total(),
        "streams": [
            {
                "domain": labels.domain,
                "grade": labels.grade,
                "class": labels.data_class,
                "points": count,
                "destinations": [each.name for each in destinations if rule_of(each).entitles(labels)],
            }
            for labels, count in sorted(streams.items())
        ],
        "destinations": [{"name": each.name, "url": each.url, "format": each.format} for each in destinations],
        "log": {
            "path": str(log.path),
            "storage": kind,
            "budget": "auto" if log.budget is None else "set",
            "budget_bytes": budget,
            "bytes_per_day": round(rate.bytes_per_day),
            "rate": "measured" if measured else "assumed",
            "days": round(rate.days(budget), 1),
            "keep_s": log.keep,
            "commit": "auto" if log.commit is None else "set",
            "commit_s": commit_default_s(kind) if log.commit is None else log.commit,
            "when_full": log.when_full,
        },
    }


def _in_words(summary: dict[str, Any]) -> str:
    log = summary["log"]
    lines = [f"gateway {summary['gateway']}: the config is right"]
    for name, count in summary["adapters"].items():
        lines.append(f"  {name}: {_count(count['devices'], 'device')}, {_count(count['points'], 'point')}")
    lines += [f"  wire {wire}" for wire in summary["wires"]]
    lines.append(f"  identifiers: {summary['identified_points']} of {_count(summary['points'], 'point')}")
    for stream in summary["streams"]:
        labels = f"{stream['domain']}, grade {stream['grade']}, {stream['class']}"
        receivers = ", ".join(stream["destinations"]) or "no destination"
        lines.append(f"  stream ({labels}): {_count(stream['points'], 'point')}, to {receivers}")
    lines += [f"  destination {each['name']}: {each['url']}, {each['format']}" for each in summary["destinations"]]
    budget, commit = size_text(log["budget_bytes"]), duration_text(log["commit_s"])
    lines.append(
        f"  log: {log['path']} ({log['storage']}), when full {log['when_full']}, keep {duration_text(log['keep_s'])}"
    )
    lines.append(f"       budget {budget} ({log['budget']}), commit every {commit} ({log['commit']}), on this machine")
    rate = "at the present rate" if log["rate"] == "measured" else "if each point gave a reading a second"
    lines.append(f"       holds about {days_text(log['days'])}: {size_text(log['bytes_per_day'])} a day, {rate}")
    return "\n".join(lines) + "\n"


def _refusal(problems: tuple[Problem, ...]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    return f"{_count(errors, 'error')}" + (f", {_count(warnings, 'warning')}" if warnings else "") + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
