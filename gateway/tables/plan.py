"""Changes of device files as one step: what they would be, whether the config passes with them, and their writing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gateway.config import ConfigProblems, LoadedConfig, Problem, load_config
from gateway.contract import ConfigError
from gateway.tables.changes import Changes
from gateway.tables.edit import DeviceText

Texts = Mapping[Path, str]
"""new texts of device files"""


def edited(file: Path, text: str, changes: Changes, *, remove: bool) -> str:
    """The text of a device file with the changes; points that are gone only go where `remove`.

    A point that comes from the device's template gets an entry with what is different. Raises ConfigError.
    """
    device = DeviceText(str(file), text)
    for change in changes.changed:
        if device.has(change.point):
            for key in change.keys:
                if key.new is None:
                    device.remove_key(change.point, key.key)
                else:
                    device.set(change.point, key.key, key.new)
            continue
        if dropped := [key.key for key in change.keys if key.new is None]:
            raise ConfigError(
                f"{file}: point {change.point} has {', '.join(dropped)} from its template, which this device cannot "
                "take away; leave the cell empty, or change the template"
            )
        device.append({"point": change.point} | {key.key: key.new for key in change.keys})
    for change in changes.new:
        device.append(change.values)
    if remove:
        for gone in changes.gone:
            if not device.has(gone.point):
                raise ConfigError(
                    f"{file}: point {gone.point} comes from the template of this device; name it under `without`"
                )
            device.remove_point(gone.point)
    return device.text


def check(config_dir: Path, texts: Texts) -> LoadedConfig:
    """Load the config as it would be with `texts`. Raises ConfigProblems, which name the real files."""
    with tempfile.TemporaryDirectory(prefix="edge-gateway-points-") as name:
        folder = Path(name)
        (folder / "devices").mkdir()
        for entry in config_dir.iterdir():
            if entry.name != "devices":
                (folder / entry.name).symlink_to(entry.absolute())
        changed = {file.name for file in texts}
        if (config_dir / "devices").is_dir():
            for entry in (config_dir / "devices").iterdir():
                if entry.name not in changed:
                    (folder / "devices" / entry.name).symlink_to(entry.absolute())
        for file, text in texts.items():
            (folder / "devices" / file.name).write_bytes(text.encode())
        try:
            loaded = load_config(folder)
        except ConfigProblems as error:
            raise ConfigProblems([_real(problem, name, config_dir) for problem in error.problems]) from None
        warnings = tuple(_real(problem, name, config_dir) for problem in loaded.warnings)
        return replace(loaded, folder=config_dir, warnings=warnings)


def _real(problem: Problem, folder: str, config_dir: Path) -> Problem:
    real = str(config_dir)
    return replace(
        problem,
        file=problem.file.replace(folder, real),
        message=problem.message.replace(folder, real),
        hint=problem.hint.replace(folder, real),
    )


def write(texts: Texts) -> None:
    """Write device files, each in one step, with the one before beside it as .bak. Raises OSError."""
    for file, text in texts.items():
        file.parent.mkdir(exist_ok=True)
        # A name that begins with a dot is no device file, should the power fail now.
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as new:
                new.write(text.encode())
                new.flush()
                os.fsync(new.fileno())
            if file.exists():
                shutil.copymode(file, name)
                shutil.copy2(file, file.with_name(file.name + ".bak"))
            else:
                Path(name).chmod(0o644)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
