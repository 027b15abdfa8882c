"""From a folder to a checked config: everything that is wrong is found in one go."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config import cross
from gateway.config.identify import resolve_identifiers
from gateway.config.models import GatewayFile, IdentifiersConfig
from gateway.config.problems import ConfigProblems, Place, Problem, tidy
from gateway.config.receivers import check_receivers
from gateway.config.secrets import Secrets
from gateway.config.sources import Overlay, Plain, Source, is_derived
from gateway.config.templates import Template
from gateway.config.translate import translate
from gateway.config.words import nearest
from gateway.config.yaml import Document, parse
from gateway.contract import AdapterType
from gateway.contract.config import Governance
from gateway.contract.plan import NOTHING_PLANNED, LoadPlan
from gateway.log.records import Labels

ADAPTERS_GROUP = "edge_gateway.adapters"
"""entry point group in which adapters are found"""

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LoadedDevice:
    """A checked device. `labels` and `identifiers` run parallel to `config.points`."""

    config: Any = field(repr=False)
    """the adapter's `device_model`"""
    adapter: AdapterType
    labels: tuple[Labels, ...] = field(repr=False)
    identifiers: tuple[str | None, ...] = field(repr=False)
    file: FilePath

    @property
    def name(self) -> str:
        """The device's name."""
        name: str = self.config.device
        return name


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config that passed its check."""

    folder: FilePath
    gateway: GatewayFile = field(repr=False)
    devices: tuple[LoadedDevice, ...]
    warnings: tuple[Problem, ...] = ()
    load: LoadPlan = field(default=NOTHING_PLANNED, repr=False)
    """what the adapters will ask of the plant"""
    files: tuple[FilePath, ...] = field(default=(), repr=False)
    """gateway.yaml, the device files and the templates that they use: when none of them changed, nothing did"""


def load_config(
    folder: FilePath,
    *,
    adapters: Mapping[str, AdapterType] | None = None,
    environment: Mapping[str, str] | None = None,
    for_run: bool = False,
) -> LoadedConfig:
    """Read and check gateway.yaml, devices/ and the templates that they name.

    `adapters` by name stand in for the installed ones; `for_run` makes an unwritable log folder an error, which it is
    not on the machine where the config is merely checked. Raises `ConfigProblems` with everything that is wrong.
    """
    return load_checked(folder, adapters=adapters, environment=environment, for_run=for_run)[0]


def load_checked(
    folder: FilePath,
    *,
    adapters: Mapping[str, AdapterType] | None = None,
    environment: Mapping[str, str] | None = None,
    for_run: bool = False,
) -> tuple[LoadedConfig, Sequence[cross.CheckedDevice]]:
    """As `load_config`, with the sources of its devices in the same order, for those who point into files.

    They hold the texts of all files, which a running gateway does not need.
    """
    loading = Loading(folder, adapters, os.environ if environment is None else environment)
    config = loading.load(for_run)
    problems = loading.told()
    if config is None or any(problem.severity == "error" for problem in problems):
        raise ConfigProblems(problems)
    return replace(config, warnings=tuple(problems)), loading.devices


class Loading:
    """One run of the check; gathers problems as it goes."""

    def __init__(
        self, folder: FilePath, adapters: Mapping[str, AdapterType] | None, environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.secrets = Secrets(folder, environment)
        self._adapters = _Adapters(adapters)
        self._templates: dict[str, Template | None] = {}
        self._files: list[FilePath] = []
        self.devices: list[cross.CheckedDevice] = []
        """the device files that their adapters accept, once `load` has run"""

    def told(self) -> list[Problem]:
        """What is wrong or doubtful, each once and without secrets."""
        return tidy(
            replace(
                problem,
                message=self.secrets.redact(problem.message),
                used_by=tuple(self.secrets.redact(device) for device in problem.used_by),
            )
            for problem in self.problems
        )

    def load(self, for_run: bool = False) -> LoadedConfig | None:
        """The config; None where nothing can be made of it, and `problems` say why."""
        if not self.folder.is_dir():
            what = "this is a file, not a folder" if self.folder.is_file() else "there is no such folder"
            self._problem(self.folder, what, "name the folder that holds gateway.yaml and devices/")
            return None
        source = self._gateway_source()
        gateway = self._validate(GatewayFile, source) if source else None
        data = source.data if source else {}
        governance = gateway.governance if gateway else _part(Governance, data.get("governance", {}))
        identifiers = gateway.identifiers if gateway else _part(IdentifiersConfig, data.get("identifiers"))
        gateway_id = data.get("gateway", {}).get("id") if isinstance(data.get("gateway"), dict) else None
        self.devices = devices = [device for file in self._device_files() if (device := self._device(file))]
        self._check_unused_templates()
        self.problems += cross.check_devices(devices)
        # Without a readable gateway.yaml every point would seem unlabelled: only the cause is told.
        labels = cross.resolve_labels(devices, governance, self.problems) if source and governance is not None else []
        ids, found = resolve_identifiers(devices, identifiers, str(gateway_id), source)
        self.problems += found
        if source and gateway:
            self.problems += cross.check_gateway(gateway, source, for_run=for_run)
        if gateway is None or len(labels) != len(devices):
            return None
        # Half a plant, or one with a device twice, says nothing of what will be asked of it.
        self.problems += check_receivers(devices, labels, gateway, source) if source else []
        right = not any(problem.severity == "error" for problem in self.problems)
        load, found = cross.plan_load(devices) if right else (NOTHING_PLANNED, [])
        self.problems += found
        loaded = tuple(
            LoadedDevice(device.config, device.adapter, labels[i], ids[i], device.file)
            for i, device in enumerate(devices)
        )
        return LoadedConfig(self.folder, gateway, loaded, load=load, files=tuple(sorted(self._files)))

    def _gateway_source(self) -> Source | None:
        file = self.folder / "gateway.yaml"
        if not file.is_file():
            self._problem(file, "there is no gateway.yaml", "it says which box this is and where readings go")
            return None
        document = self._read(file, "gateway:")
        return Plain(document) if document else None

    def _device_files(self) -> list[FilePath]:
        folder = self.folder / "devices"
        if not folder.is_dir():
            self._problem(folder, "there is no folder devices/", "put one YAML file per device there")
            return []
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        for file in files:
            if file.suffix != ".yaml" and file.suffix.lower() in (".yaml", ".yml"):
                self._problem(
                    file, "device files end in .yaml, so this one is not read", f"rename it to {file.stem}.yaml"
                )
        files = [file for file in files if file.suffix == ".yaml"]
        if not files:
            self._problem(
                folder, "there is no device file", "put one YAML file per device there, such as boiler-1.yaml"
            )
        return files

    def _device(self, file: FilePath) -> cross.CheckedDevice | None:
        document = self._read(file, "device: boiler-1")
        source = self._with_template(document) if document else None
        if source is None:
            return None
        name = source.data.get("adapter")
        if not isinstance(name, str):
            found = "is missing" if name is None else "must be text"
            self.problems.append(
                Problem.at(source.locate(("adapter",)), f'key "adapter" {found}', self._adapters.known)
            )
            return None
        adapter, problem = self._adapters.find(name)
        if adapter is None:
            self.problems.append(Problem.at(source.locate(("adapter",)), f"adapter: {problem[0]}", problem[1]))
            return None
        before = len(self.problems)
        config = self._validate(adapter.device_model, source)
        self.problems += cross.same_names(source) if config is None else []
        if isinstance(source, Overlay) and (doubtful := source.doubtful()):
            told = self.problems[before:]
            self.problems[before:] = [each for each in told if (each.file, each.line, each.column) not in doubtful]
            return None
        return cross.CheckedDevice(config, adapter, source, file) if config else None

    def _with_template(self, document: Document) -> Source | None:
        name = document.data.get("template")
        if not isinstance(name, str):
            for key in ("parameters", "without"):
                if key in document.data:
                    message = f'key "{key}" has no meaning without a template'
                    self.problems.append(Problem.at(document.locate((key,), key=True), message, "add template: NAME"))
            return Plain(document)
        if name not in self._templates:
            self._templates[name] = self._template(name)
        template = self._templates[name]
        if template is None:
            if not (self.folder / "templates" / f"{name}.yaml").is_file():
                self._no_template(document, name)
            return None
        overlay = Overlay(document, template)
        self.problems += overlay.problems
        return overlay

    def _template(self, name: str) -> Template | None:
        file = self.folder / "templates" / f"{name}.yaml"
        document = self._read(file, "points:") if file.is_file() else None
        if document is None:
            return None
        template = Template(document)
        self.problems += template.problems
        return template

    def _no_template(self, document: Document, name: str) -> None:
        there = sorted(path.stem for path in (self.folder / "templates").glob("*.yaml"))
        near = nearest(name, there)
        message = f"template: there is no templates/{name}.yaml" + (f', did you mean "{near}"?' if near else "")
        known = f"templates there: {', '.join(there)}" if there else "the folder templates/ holds none"
        self.problems.append(Problem.at(document.locate(("template",)), message, known))

    def _check_unused_templates(self) -> None:
        folder = self.folder / "templates"
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if file.suffix == ".yaml" and not file.name.startswith(".") and file.stem not in self._templates:
                message, hint = "no device uses this template, so it is not checked", "name it in a device file"
                self.problems.append(Problem.at(Place(str(file)), message, f"{hint}: template: {file.stem}", "warning"))

    def _read(self, file: FilePath, example: str) -> Document | None:
        self._files.append(file)
        try:
            content = file.read_bytes()
        except OSError as error:
            self._problem(file, f"the file cannot be read: {error.strerror}", "correct its owner or permissions")
            return None
        document, problems = parse(str(file), content)
        self.problems += problems
        if document is None:
            return None
        if document.data is None:
            self._problem(file, "the file is empty", "fill it in, or delete it")
            return None
        if not isinstance(document.data, dict):
            self.problems.append(Problem.at(document.locate(()), f"expected keys such as `{example}` at the top"))
            return None
        document.move("points", "derived", is_derived)
        self.problems += self.secrets.fill(document)
        return document

    def _validate(self, model: type[_M], source: Source) -> _M | None:
        try:
            return model.model_validate(source.data, context={"folder": self.folder})
        except ValidationError as error:
            self.problems += translate(error, model, source)
            return None

    def _problem(self, file: FilePath, message: str, hint: str) -> None:
        self.problems.append(Problem.at(Place(str(file)), message, hint))


class _Adapters:
    """The adapters that are installed, loaded when a device names them."""

    def __init__(self, given: Mapping[str, AdapterType] | None) -> None:
        self._loaded: dict[str, AdapterType] = dict(given or {})
        self._installed = {} if given is not None else {each.name: each for each in entry_points(group=ADAPTERS_GROUP)}

    @property
    def known(self) -> str:
        return "installed adapters: " + (", ".join(sorted({*self._loaded, *self._installed})) or "none")

    def find(self, name: str) -> tuple[AdapterType | None, tuple[str, str]]:
        if name in self._loaded:
            return self._loaded[name], ("", "")
        if name not in self._installed:
            return None, (f'there is no adapter "{name}"', self.known)
        try:
            self._loaded[name] = self._installed[name].load()
        except (ImportError, AttributeError) as error:
            return None, (f'the adapter "{name}" is installed but cannot be loaded: {error}', "install it again")
        return self._loaded[name], ("", "")


def _part(model: type[_M], data: Any) -> _M | None:
    """A part of a file whose whole was refused, so that checks that need only this part still happen."""
    try:
        return model.model_validate(data)
    except ValidationError:
        return None
