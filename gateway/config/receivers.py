"""Points that no destination may carry: they are read and kept, and nobody gets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config.cross import CheckedDevice
from gateway.config.models import GatewayFile
from gateway.config.problems import Place, Problem
from gateway.config.sources import Source
from gateway.log.records import Labels
from gateway.publishing.clearance import rule_of

_SHOWN = 3


def check_receivers(
    devices: Sequence[CheckedDevice], labels: Sequence[tuple[Labels, ...]], gateway: GatewayFile, source: Source
) -> list[Problem]:
    """One warning for each place that labels points so that none of the destinations may have them.

    Where there is no destination at all, that is told elsewhere.
    """
    rules = [rule_of(destination) for destination in gateway.destinations]
    if not rules:
        return []
    stranded: dict[tuple[Place, Labels], list[str]] = {}
    carried: dict[Labels, bool] = {}
    for device, of_points in zip(devices, labels, strict=True):
        for index, label in enumerate(of_points):
            if label not in carried:
                carried[label] = any(rule.entitles(label) for rule in rules)
            if not carried[label]:
                place = _labelled_at(device, index, source)
                name = f"{device.config.device}/{device.config.every_point[index].point}"
                stranded.setdefault((place, label), []).append(name)
    return [_problem(place, label, names, gateway) for (place, label), names in stranded.items()]


def _labelled_at(device: CheckedDevice, index: int, gateway: Source) -> Place:
    """Where the nearest governance stands that this point has."""
    if device.config.every_point[index].governance is not None:
        return device.source.locate((*device.path(index), "governance"), key=True)
    if device.config.governance is not None:
        return device.source.locate(("governance",), key=True)
    return gateway.locate(("governance",), key=True)


def _problem(place: Place, label: Labels, names: Sequence[str], gateway: GatewayFile) -> Problem:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    message = (
        f"governance: no destination may carry {label.domain}, grade {label.grade}, {label.data_class}: "
        f"{shown} {'stays' if len(names) == 1 else 'stay'} on this box"
    )
    reasons = ", ".join(
        f"{each.name} takes {_takes(each.max_grade, each.classes, each.domains)}" for each in gateway.destinations
    )
    return Problem.at(place, message, f"relabel them, or let a destination have them: {reasons}", "warning")


def _takes(grade: int, classes: Iterable[str] | None, domains: Iterable[str] | None) -> str:
    lists = [("classes", classes), ("domains", domains)]
    return f"grades up to {grade}" + "".join(f", {key} {', '.join(each)}" for key, each in lists if each is not None)
