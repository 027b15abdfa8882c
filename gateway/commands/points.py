"""`edge-gateway points ...`: point tables to and from the config, and other local names."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, get_args

from gateway.commands.points_view import changes_json, changes_text
from gateway.config import ConfigProblems, LoadedConfig, LoadedDevice, Problem, load_config
from gateway.config.load import ADAPTERS_GROUP
from gateway.contract import AdapterType, ConfigError, PointConfig
from gateway.contract.registers import HasRegisterTools
from gateway.contract.tools import HasTools
from gateway.tables import kepware, plan
from gateway.tables.changes import Changes, compare
from gateway.tables.convert import TableProblem, convert
from gateway.tables.edit import DeviceText, flow
from gateway.tables.export import as_sheet
from gateway.tables.headings import find_headings
from gateway.tables.naming import find_point
from gateway.tables.sheets import Sheet, read, write
from gateway.tables.words import order_word

OK = 0
WRONG = 2
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHEET_LETTERS = 31
"""longest name of a sheet in Excel"""


class Wanted(NamedTuple):
    """What `points import` was asked for."""

    file: Path
    config_dir: Path
    device: str | None
    base: int
    order: str | None
    url: str | None
    station: int | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A device that a sheet is of."""

    device: str
    adapter: AdapterType
    file: Path
    text: str
    points: tuple[PointConfig, ...]
    taken: tuple[str, ...] = ()
    """names of derived points"""

    @property
    def model(self) -> type[PointConfig]:
        """The keys of its points."""
        model: type[PointConfig] = get_args(self.adapter.device_model.model_fields["points"].annotation)[0]
        return model


def main_import(wanted: Wanted, *, apply: bool, remove: bool, all: bool, as_json: bool) -> int:
    """Show what a table would change, and write it where `apply`; returns 0, or 2 when something is wrong."""
    order = order_word(wanted.order) if wanted.order else None
    if wanted.order and order is None:
        raise ConfigError(f"--order: expected ABCD, CDAB, BADC or DCBA, found {wanted.order!r}")
    if not wanted.file.is_file():
        raise ConfigError(f"{wanted.file}: there is no such file")
    sheets = read(wanted.file)
    config = _load(wanted.config_dir)
    notes: list[str] = []
    problems: list[TableProblem] = []
    found: list[tuple[_Target, Changes]] = []
    for sheet in _sheets_of(wanted.device, sheets, notes) if wanted.device else sheets:
        one = _one_sheet(sheet, wanted, config, order, notes, problems)
        if one and any(target.file == one[0].file for target, _ in found):
            problems.append(TableProblem(sheet.name, 0, "", f"an earlier sheet is of device {one[0].device} already"))
        elif one:
            found.append(one)
    if not found and not problems:
        problems.append(TableProblem(str(wanted.file), 0, "", "no sheet has a row of headings", _HEADINGS))
    for _, changes in found:
        problems += sorted(changes.problems, key=lambda problem: problem.row)
    texts = {} if problems else _texts(found, remove=remove)
    refused: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    if texts:
        refused, warnings = _checked(wanted.config_dir, texts, config)
    written = bool(texts) and apply and not refused
    if written:
        plan.write(texts)
    all_changes = [changes for _, changes in found]
    state = "wrong" if problems or refused else "written" if written else "shown" if texts else "same"
    if as_json:
        report = changes_json(all_changes, problems, [*refused, *warnings], notes, state)
        sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    else:
        for line in changes_text(all_changes, problems, [*refused, *warnings], notes, state, remove=remove, all=all):
            sys.stdout.write(line + "\n")
    return WRONG if state == "wrong" else OK


_HEADINGS = "a table has a row with at least 位号 (or 名称) and 地址, e.g. 位号 | 名称 | 地址 | 数据类型 | 单位"


def main_export(config_dir: Path, output: Path, device: str | None, lang: str, *, force: bool) -> int:
    """Write the points as a table; returns 0."""
    if lang not in ("zh", "en"):
        raise ConfigError(f"--lang: expected zh or en, found {lang!r}")
    if output.exists() and not force:
        raise ConfigError(f"{output} is there already; --force replaces it")
    config = load_config(config_dir)
    devices = [_device(config, device)] if device else list(config.devices)
    write(output, [as_sheet(each.name[:_SHEET_LETTERS], each.config.points, lang) for each in devices])
    count = sum(len(each.config.points) for each in devices)
    sys.stdout.write(f"written: {output} ({len(devices)} {_s(devices, 'device')}, {count:,} points)\n")
    return OK


def main_rename(config_dir: Path, device: str, old: str, new: str, *, apply: bool) -> int:
    """Give a point another local name and keep its identifier; returns 0, or 2 when the config would be wrong."""
    config = load_config(config_dir)
    loaded = _device(config, device)
    point = find_point(loaded.config.points, old, device)
    if not _NAME.fullmatch(new):
        raise ConfigError(f"a local name has letters, digits, - and _ (at most 64), found {new!r}")
    if any(each.point.casefold() == new.casefold() and each is not point for each in loaded.config.every_point):
        raise ConfigError(f"device {device} has a point {new} already")
    identifier = loaded.identifiers[loaded.config.points.index(point)]
    text = loaded.file.read_bytes().decode("utf-8-sig")
    if not DeviceText(str(loaded.file), text).has(point.point):
        raise ConfigError(f"{loaded.file}: point {point.point} comes from the template of this device; rename it there")
    lines = [f"{device}: point {point.point} becomes {new}"]
    texts = {loaded.file: _renamed(loaded, text, point.point, new, None)}
    try:
        after = plan.check(config_dir, texts)
        place = [each.point for each in _device(after, device).config.points].index(new)
        if identifier is not None and _device(after, device).identifiers[place] != identifier:
            texts = {loaded.file: _renamed(loaded, text, point.point, new, identifier)}
            plan.check(config_dir, texts)
            lines.append(f"  its identifier stays {identifier}: written into the file as `id`")
        elif identifier is not None:
            lines.append(f"  its identifier stays {identifier}")
    except ConfigProblems as error:
        sys.stdout.write("".join(f"{problem}\n" for problem in error.problems if problem.severity == "error"))
        sys.stdout.write("nothing is written: the config would not pass its check\n")
        return WRONG
    lines.append("  readings before and after are of two entries of the catalogue, joined by the identifier")
    if apply:
        plan.write(texts)
    lines.append(f"written: {loaded.file}" if apply else "nothing is written yet; --apply writes it")
    sys.stdout.write("\n".join(lines) + "\n")
    return OK


def _renamed(device: LoadedDevice, text: str, old: str, new: str, identifier: str | None) -> str:
    changed = DeviceText(str(device.file), text)
    changed.set(old, "point", new)
    if identifier is not None:
        changed.set(old, "id", identifier)
    return changed.text


def _load(config_dir: Path) -> LoadedConfig | None:
    """The config; None where there is no device yet. Raises ConfigProblems."""
    devices = config_dir / "devices"
    if (config_dir / "gateway.yaml").is_file() and not any(devices.glob("*.yaml") if devices.is_dir() else ()):
        return None
    return load_config(config_dir)


def _device(config: LoadedConfig, name: str) -> LoadedDevice:
    for device in config.devices:
        if name in (device.name, device.config.name):
            return device
    raise ConfigError(f"there is no device {name}; devices: {', '.join(each.name for each in config.devices)}")


def _one_sheet(
    sheet: Sheet,
    wanted: Wanted,
    config: LoadedConfig | None,
    order: str | None,
    notes: list[str],
    problems: list[TableProblem],
) -> tuple[_Target, Changes] | None:
    """What a sheet would change; None where it is of no device, with a note or a problem that says so."""
    target = _target(sheet, wanted, config)
    table_sheet, order_here = sheet, order
    if kepware.is_export(sheet):
        table_sheet, wrong, left_out = kepware.as_table(sheet)
        problems += wrong
        notes += left_out
        if order is None and target and "order" in target.model.model_fields:
            order_here = kepware.ORDER
            notes.append(
                f"{sheet.name}: KEPServerEX's export; values of 32 and 64 bits are read as {kepware.ORDER}, its "
                "default (First word low); --order ABCD where that was switched off"
            )
    model = target.model if target else PointConfig
    table = convert(table_sheet, model, target.adapter if target else None, base=wanted.base, order=order_here)
    if table is None:
        notes.append(f"{sheet.name}: no row of headings, the sheet is left out")
        return None
    if target is None:
        problems.append(TableProblem(sheet.name, 0, "", *_no_device(sheet, wanted, config)))
        return None
    return target, compare(table, target.device, target.model, target.points, target.taken)


def _no_device(sheet: Sheet, wanted: Wanted, config: LoadedConfig | None) -> tuple[str, str]:
    names = [device.name for device in config.devices] if config else []
    if wanted.device:
        return (
            f"there is no device {wanted.device}",
            "a new device needs --url, e.g. --url tcp://192.168.1.20:502 (with --station 1) or --url opc.tcp://HOST:4840",
        )
    known = f"devices: {', '.join(names)}" if names else "there are no devices yet"
    return f"the sheet {sheet.name!r} is of no device ({known})", "name the sheet like the device, or use --device"


def _sheets_of(device: str, sheets: list[Sheet], notes: list[str]) -> list[Sheet]:
    """The sheet that --device means: that of its name, else the only one with a table. Raises ConfigError."""
    if len(sheets) == 1:
        return sheets
    tables = [sheet for sheet in sheets if kepware.is_export(sheet) or find_headings(sheet, ())]
    found = [sheet for sheet in tables if sheet.name in (device, device[:_SHEET_LETTERS])] or tables
    if len(found) > 1:
        names = ", ".join(sheet.name for sheet in found)
        raise ConfigError(
            f"--device {device}: several sheets hold tables ({names}); name the one that is meant {device}"
        )
    notes += [f"{sheet.name}: left out, because of --device {device}" for sheet in sheets if sheet not in found]
    return found


def _target(sheet: Sheet, wanted: Wanted, config: LoadedConfig | None) -> _Target | None:
    """The device that a sheet is of; None when there is none."""
    devices = config.devices if config else ()
    if wanted.device is None:
        named = [each for each in devices if sheet.name in (each.name, each.name[:_SHEET_LETTERS], each.config.name)]
        return _existing(named[0]) if len(named) == 1 else None
    chosen = [each for each in devices if wanted.device in (each.name, each.config.name)]
    if chosen:
        return _existing(chosen[0])
    return _new_device(wanted, wanted.device, wanted.url) if wanted.url else None


def _existing(device: LoadedDevice) -> _Target:
    text = device.file.read_bytes().decode("utf-8-sig")
    derived = tuple(point.point for point in device.config.derived)
    return _Target(device.name, device.adapter, device.file, text, device.config.points, derived)


def _new_device(wanted: Wanted, name: str, url: str) -> _Target:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--device: a name has letters, digits, - and _ (at most 64), found {name!r}")
    scheme = url.partition("://")[0]
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        if isinstance(adapter, HasTools | HasRegisterTools) and scheme in adapter.schemes:
            break
    else:
        raise ConfigError(f"--url: no installed adapter knows {scheme}://; expected e.g. tcp://192.168.1.20:502")
    connection = {"url": url} | ({} if wanted.station is None else {"station": wanted.station})
    text = f"device: {name}\nadapter: {adapter.name}\nconnection: {flow(connection)}\npoints:\n"
    file = wanted.config_dir / "devices" / f"{name}.yaml"
    if file.exists():
        raise ConfigError(f"{file} is there, but it is of another device; rename one of them")
    return _Target(name, adapter, file, text, ())


def _texts(found: list[tuple[_Target, Changes]], *, remove: bool) -> dict[Path, str]:
    return {
        target.file: plan.edited(target.file, target.text, changes, remove=remove)
        for target, changes in found
        if changes.any or (remove and changes.gone)
    }


def _checked(
    config_dir: Path, texts: plan.Texts, before: LoadedConfig | None
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """What would be wrong with the config, and which warnings would be new."""
    known = {(warning.file, warning.message) for warning in before.warnings} if before else set()
    try:
        after = plan.check(config_dir, texts)
    except ConfigProblems as error:
        return tuple(problem for problem in error.problems if problem.severity == "error"), ()
    return (), tuple(warning for warning in after.warnings if (warning.file, warning.message) not in known)


def _s(things: list[Any], noun: str) -> str:
    return noun if len(things) == 1 else f"{noun}s"
