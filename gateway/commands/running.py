"""`edge-gateway pause` and `resume`, and where the running gateway of a config listens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.commands.equipment import OK, write_json
from gateway.config import LogConfig
from gateway.config.yaml import parse
from gateway.contract import ConfigError
from gateway.control import ask


def log_folder(path: Path) -> Path:
    """The log's folder: `path` itself, or what gateway.yaml there says. Raises ConfigError.

    Only the key `log` is looked at: the gateway runs, whatever somebody has begun to write into its config since.
    """
    file = path / "gateway.yaml"
    if not file.exists():
        if path.is_dir():
            return path
        raise ConfigError(f"{path}: expected the config's folder, or the log's, found neither")
    document, problems = parse(str(file), file.read_bytes())
    data = document.data if document is not None else None
    if not isinstance(data, dict):
        raise ConfigError("\n".join(map(str, problems)) or f"{file}: nothing in it says where the log is")
    try:
        return LogConfig.model_validate(data.get("log") or {}, context={"folder": path}).path
    except ValidationError:
        raise ConfigError(f"{file}: `log` cannot be read; see `edge-gateway check {path}`") from None


def pause(path: Path, devices: Sequence[str], *, all_of_them: bool, as_json: bool) -> int:
    """Have devices not be asked any more, also after a restart; returns 0 once nothing goes to them."""
    done = ask(log_folder(path), "pause", **_chosen(devices, all_of_them))
    if as_json:
        write_json(done)
    else:
        names = ", ".join(done["paused"])
        sys.stdout.write(
            f"paused: {names}\nnothing is sent to them until `edge-gateway resume`, also not after a restart\n"
        )
    return OK


def resume(path: Path, devices: Sequence[str], *, all_of_them: bool, as_json: bool) -> int:
    """Have paused devices be asked again; returns 0."""
    done = ask(log_folder(path), "resume", **_chosen(devices, all_of_them))
    if as_json:
        write_json(done)
    else:
        names = ", ".join(done["resumed"])
        sys.stdout.write(f"resumed: {names}\n" if names else "none of them was paused\n")
    return OK


def _chosen(devices: Sequence[str], all_of_them: bool) -> dict[str, Any]:
    if all_of_them == bool(devices):
        raise ConfigError("name the devices, or give --all")
    return {"all": True} if all_of_them else {"devices": list(devices)}
