"""What no single key shows: names used twice, labels that nobody gave, weak settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from gateway.config.models import GatewayFile
from gateway.config.problems import Path, Place, Problem
from gateway.config.sources import TABLES, Source
from gateway.config.storage import check_storage
from gateway.config.translate import subject
from gateway.contract import AdapterType
from gateway.contract.config import Governance
from gateway.contract.plan import HasPlan, LoadPlan
from gateway.derive.check import Finding, check_derived, labels_of_derived
from gateway.log.records import Labels
from gateway.publishing.config import Broker, DestinationConfig
from gateway.units.conversion import ConversionError, converted
from gateway.units.table import find, nearest_spelling

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CheckedDevice:
    """A device file that its adapter's model accepts."""

    config: Any
    adapter: AdapterType
    source: Source
    file: FilePath

    def path(self, index: int) -> Path:
        """Where a point of `config.every_point` stands."""
        read = len(self.config.points)
        return ("points", index) if index < read else ("derived", index - read)


def check_devices(devices: Sequence[CheckedDevice]) -> list[Problem]:
    """Names of devices and points."""
    problems: list[Problem] = []
    first: dict[str, CheckedDevice] = {}
    for device in devices:
        name = device.config.device
        if name.startswith("_"):
            place = device.source.locate(("device",))
            hint = "_events is where events have their offsets" if name == "_events" else "choose another name"
            problems.append(Problem.at(place, f'device: names that begin with "_" are reserved, found "{name}"', hint))
        if name in first:
            place, other = device.source.locate(("device",)), first[name].source.locate(("device",))
            problems.append(
                Problem.at(
                    place,
                    f'device: the name "{name}" is taken by {other.file}:{other.line}:{other.column}',
                    "every device needs a name of its own; offsets and topics are kept by it",
                )
            )
        elif device.file.stem != name:
            message = f'device: the file is called {device.file.name}, the device "{name}"'
            place = device.source.locate(("device",))
            problems.append(Problem.at(place, message, f"rename the file to {name}.yaml", "warning"))
        first.setdefault(name, device)
        problems += _check_points(device)
    return problems


def same_names(source: Source) -> list[Problem]:
    """Points that stand twice in a device file that its adapter's model refuses, so that this is told as well."""
    first: dict[str, Path] = {}
    problems: list[Problem] = []
    for table in TABLES:
        points = source.data.get(table)
        for index, point in enumerate(points if isinstance(points, list) else []):
            name = point.get("point") if isinstance(point, dict) else None
            if not isinstance(name, str):
                continue
            path = (table, index, "point")
            if name in first:
                problems.append(_stands_twice(name, source.locate(path), source.locate(first[name])))
            first.setdefault(name, path)
    return problems


def _stands_twice(name: str, place: Place, other: Place) -> Problem:
    where = f"line {other.line}" if other.file == place.file else f"{other.file}:{other.line}:{other.column}"
    return Problem.at(place, f'point "{name}" stands twice, first on {where}', "rename or remove one of them")


def plan_load(devices: Sequence[CheckedDevice]) -> tuple[LoadPlan, list[Problem]]:
    """What adapters say about all their devices together, and what is wrong or doubtful as problems."""
    text: list[str] = []
    wires: list[str] = []
    problems: list[Problem] = []
    for adapter in {device.adapter.name: device.adapter for device in devices}.values():
        if not isinstance(adapter, HasPlan):
            continue
        its = [device for device in devices if device.adapter is adapter]
        plan = adapter.plan([device.config for device in its])
        text += plan.text
        wires += plan.wires
        for remark in plan.remarks:
            source = its[remark.device].source
            place = source.locate(remark.path)
            message = f"{subject(remark.path, source)}{remark.message}"
            problems.append(Problem.at(place, message, remark.hint, remark.severity))
    return LoadPlan(tuple(text), (), tuple(wires)), problems


def _check_points(device: CheckedDevice) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for index, point in enumerate(device.config.every_point):
        if point.point in first:
            place = device.source.locate((*device.path(index), "point"))
            other = device.source.locate((*device.path(first[point.point]), "point"))
            problems.append(_stands_twice(point.point, place, other))
        first.setdefault(point.point, index)
        if point.unit is not None and point.unit != point.unit.strip():
            path = (*device.path(index), "unit")
            message = f"{subject(path, device.source)}the unit {point.unit!r} begins or ends with a space"
            problems.append(Problem.at(device.source.locate(path), message, "remove the space", "warning"))
    problems += _check_units(device)
    if device.config.derived and not any(problem.severity == "error" for problem in problems):
        problems += _of_derived(device, check_derived(device.config.points, device.config.derived))
    return problems


def _check_units(device: CheckedDevice) -> Iterator[Problem]:
    """Units that cannot be converted, and those that are in no table: their text travels, but no code."""
    told: set[str] = set()
    for index, point in enumerate(device.config.points):
        if point.convert_to is not None:
            try:
                converted(point)
            except ConversionError as error:
                path = (*device.path(index), "convert_to")
                yield Problem.at(device.source.locate(path), f"{subject(path, device.source)}{error}", error.hint)
    for index, point in enumerate(device.config.every_point):
        if point.unit is not None and point.unit not in told and find(point.unit) is None:
            told.add(point.unit)
            path, near = (*device.path(index), "unit"), nearest_spelling(point.unit)
            message = f'{subject(path, device.source)}the unit "{point.unit}" is not known; it travels as it is written'
            hint = f"did you mean {near}?" if near else "it has no code in the catalogue"
            yield Problem.at(device.source.locate(path), message, hint, "warning")


def _of_derived(device: CheckedDevice, findings: Sequence[Finding]) -> list[Problem]:
    return [
        Problem.at(device.source.locate(path), f"{subject(path, device.source)}{message}", hint, severity)
        for path, message, hint, severity in findings
    ]


def resolve_labels(
    devices: Sequence[CheckedDevice], gateway: Governance, problems: list[Problem]
) -> list[tuple[Labels, ...]]:
    """Each device's labels by point; a missing one becomes a problem, and the device's entry is then shorter."""
    resolved: list[tuple[Labels, ...]] = []
    for device in devices:
        labels: list[Labels] = []
        missing: dict[tuple[str, ...], list[int]] = {}
        known: dict[Governance | None, tuple[Labels | None, tuple[str, ...]]] = {}
        for index, point in enumerate(device.config.every_point):
            own = point.governance
            if own not in known:
                known[own] = _labels(own, device.config.governance, gateway)
            found, absent = known[own]
            if found is None:
                missing.setdefault(absent, []).append(index)
            else:
                labels.append(found)
        problems += [_unlabelled(device, absent, indexes) for absent, indexes in missing.items()]
        if device.config.derived and not missing:
            labels = _raised(device, labels, problems)
        resolved.append(tuple(labels))
    return resolved


def _raised(device: CheckedDevice, labels: list[Labels], problems: list[Problem]) -> list[Labels]:
    """What is computed from something is as much worth protecting as that."""
    points, derived = device.config.points, device.config.derived
    if any(finding.severity == "error" for finding in check_derived(points, derived)):
        return labels  # which was told of
    known = {point.point: label for point, label in zip(points, labels, strict=False)}
    of_derived, findings = labels_of_derived(known, derived, labels[len(points) :])
    problems += _of_derived(device, findings)
    return labels[: len(points)] + of_derived


def _labels(*levels: Governance | None) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels, nearest level first; or the keys that no level gives."""
    given = [level for level in levels if level]
    domain = next((level.domain for level in given if level.domain is not None), None)
    grade = next((level.grade for level in given if level.grade is not None), None)
    data_class = next((level.data_class for level in given if level.data_class is not None), None)
    if domain is None or grade is None or data_class is None:
        values = {"domain": domain, "grade": grade, "class": data_class}
        return None, tuple(key for key, value in values.items() if value is None)
    return Labels(domain.value, grade, data_class.value), ()


def _unlabelled(device: CheckedDevice, absent: tuple[str, ...], indexes: list[int]) -> Problem:
    names = [device.config.every_point[index].point for index in indexes]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    verb = "has" if len(names) == 1 else "have"
    example = {"domain": "domain: production", "grade": "grade: 1", "class": "class: general"}
    labels = ", ".join(example[key] for key in absent)
    return Problem.at(
        device.source.locate(device.path(indexes[0])),
        f"{shown} {verb} no {' and no '.join(absent)}; nothing leaves unlabelled",
        f"add governance: {{{labels}}} to gateway.yaml, to this device or to the point",
    )


def check_gateway(gateway: GatewayFile, source: Source, *, for_run: bool) -> list[Problem]:
    """Destinations and the log's folder."""
    problems: list[Problem] = []
    if not gateway.destinations:
        place = source.locate(("destinations",))
        message = "there is no destination: readings stay in the log of this box"
        problems.append(Problem.at(place, message, "add one under destinations:", "warning"))
    first: dict[str, int] = {}
    for index, destination in enumerate(gateway.destinations):
        path = ("destinations", index)
        if destination.name in first:
            line = source.locate((*path[:1], first[destination.name], "name")).line
            message = f'{subject(path, source)}the name "{destination.name}" is taken by the destination on line {line}'
            hint = "positions are kept by this name"
            problems.append(Problem.at(source.locate((*path, "name")), message, hint))
        first.setdefault(destination.name, index)
        problems += _check_transport(destination, path, source)
    return problems + check_storage(gateway.log, source, for_run=for_run)


def _check_transport(destination: DestinationConfig, path: Path, source: Source) -> list[Problem]:
    """What is weak, without effect or dangerous in how one destination is reached."""
    about = subject(path, source)

    def warning(key: Path, message: str, hint: str, *, at_key: bool = False) -> Problem:
        return Problem.at(source.locate((*path, *key), key=at_key), about + message, hint, "warning")

    problems: list[Problem] = []
    urls = [(("url",), destination.url), *((("alternatives", k), u) for k, u in enumerate(destination.alternatives))]
    brokers: list[tuple[Path, Broker]] = [(key, Broker.of(url)) for key, url in urls]
    if destination.user:
        problems += [
            warning(key, f"the login travels unencrypted to {broker.host}", "use mqtts:// where the broker has TLS")
            for key, broker in brokers
            if not broker.secure and broker.host not in _LOOPBACK
        ]
    if destination.tls and not any(broker.secure for _, broker in brokers):
        hint = "write mqtts:// in the url, or remove tls"
        problems.append(warning(("tls",), "the tls keys have no effect with mqtt://", hint, at_key=True))
    if destination.tls and destination.tls.insecure:
        message = "the broker's certificate is not checked: anybody can pose as it"
        problems.append(warning(("tls", "insecure"), message, "give tls.ca instead"))
    if destination.mqtt != 5 and destination.max_packet is None:
        message = "a broker that speaks MQTT 3.1.1 drops messages that are too large for it without a word"
        problems.append(warning(("mqtt",), message, "set max_packet to what the broker takes; its operator knows"))
    return problems
