"""Whether the log's folder can keep what it promises: not in memory, writable, with room."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config.models import LogConfig
from gateway.config.problems import Problem
from gateway.config.quantities import days_text, duration_text, size_text
from gateway.config.sources import Source
from gateway.log.storage import budget_bytes, kind_of, space

_MIN_BUDGET = 100 * 10**6
_MIN_KEEP_S = 3600.0


def check_storage(log: LogConfig, source: Source, *, for_run: bool) -> list[Problem]:
    """Problems of the folder on this machine; `for_run` makes an unwritable one an error."""
    problems: list[Problem] = []
    place = source.locate(("log", "path"))
    if kind_of(log.path.absolute()) == "tmpfs":
        message = f"log.path: {log.path} is in memory (tmpfs) and is lost at power-off"
        problems.append(Problem.at(place, message, "choose a folder on the disk", "warning"))
    folder = _nearest(log.path)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "is not writable for this user" if folder.is_dir() else "is not a folder"
        message = f"log.path: {folder} {what}, so the log cannot be written to {log.path}"
        hint = f"create {log.path} for the gateway's user, or choose another folder"
        problems.append(Problem.at(place, message, hint, "error" if for_run else "warning"))
    if log.budget is not None and log.budget < _MIN_BUDGET:
        message = f"log.budget: {size_text(log.budget)} is less than 100MB: minutes of data on a busy plant"
        problems.append(Problem.at(source.locate(("log", "budget")), message, "give it more, or auto", "warning"))
    if log.budget is not None and log.budget > (total := space(log.path.absolute()).total):
        message = f"log.budget: {size_text(log.budget)} is more than the file system has ({size_text(total)})"
        problems.append(Problem.at(source.locate(("log", "budget")), message, "give it less, or auto", "warning"))
    if log.keep < _MIN_KEEP_S:
        message = (
            f"log.keep: {duration_text(log.keep)} is less than an hour: an outage of the centre would soon be a loss"
        )
        problems.append(Problem.at(source.locate(("log", "keep")), message, "keep days, e.g. 180d", "warning"))
    if not for_run and (sentence := _too_long(log)):
        hint = "give it a larger budget or disk, or a shorter keep; `edge-gateway log status` shows who writes most"
        problems.append(Problem.at(source.locate(("log", "keep")), sentence, hint, "warning"))
    return problems


def _too_long(log: LogConfig) -> str | None:
    """Why `keep` cannot be met, where the log that is there says so."""
    from gateway.log.forecast import recent_rate  # noqa: PLC0415 - a start does not look, and needs none of it

    path = log.path.absolute()
    rate = recent_rate(path) if path.is_dir() else None
    if rate is None:
        return None
    budget = budget_bytes(path, "auto" if log.budget is None else log.budget, used=rate.used)
    days = rate.days(budget)
    if days * 86_400 >= log.keep:
        return None
    return (
        f"log.keep: {duration_text(log.keep)} cannot be met: at the present rate of "
        f"{size_text(int(rate.bytes_per_day))} a day, {size_text(budget)} hold {days_text(days)}"
    )


def _nearest(path: Path) -> Path:
    """The folder itself, else the nearest one above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
