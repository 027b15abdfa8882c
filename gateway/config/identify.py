"""Identifiers of all points of a gateway: from the pattern or the point's own `id`, each used once."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config.cross import CheckedDevice
from gateway.config.models import DEFAULT_PATTERN, IdentifiersConfig
from gateway.config.problems import Path, Problem
from gateway.config.sources import Source
from gateway.config.translate import subject
from gateway.identifiers import Pattern, PatternError, check_identifier, check_prefix


def resolve_identifiers(
    devices: Sequence[CheckedDevice], config: IdentifiersConfig | None, gateway: str, source: Source | None
) -> tuple[list[tuple[str | None, ...]], list[Problem]]:
    """Each device's identifiers by point, None where none is asked for; and what is wrong with them."""
    resolver = _Resolver(config, gateway, source)
    if config and config.prefix is not None and source:
        resolver.check_prefix(config.prefix, source)
    return [resolver.device(device) for device in devices], list(dict.fromkeys(resolver.problems))


class _Resolver:
    """Goes through the devices and remembers who has which identifier."""

    def __init__(self, config: IdentifiersConfig | None, gateway: str, source: Source | None) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._config = config
        self._gateway = gateway
        self._taken: dict[str, tuple[CheckedDevice, int]] = {}

    def report(self, source: Source, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(Problem.at(source.locate(path), message, hint))

    def check_prefix(self, prefix: str, source: Source) -> None:
        if finding := check_prefix(prefix):
            place = source.locate(("identifiers", "prefix"))
            self.problems.append(
                Problem.at(place, f"identifiers.prefix {finding.message}", finding.hint, finding.severity)
            )

    def device(self, device: CheckedDevice) -> tuple[str | None, ...]:
        own = device.config.identifiers
        prefix = (own.prefix if own else None) or (self._config.prefix if self._config else None)
        if own and own.prefix is not None:
            self.check_prefix(own.prefix, device.source)
        pattern = self._pattern(device, prefix)
        values = {"prefix": prefix, "gateway": self._gateway, "device": device.config.device}
        foreign = check_prefix(prefix) if prefix else None
        result: list[str | None] = []
        for index, point in enumerate(device.config.every_point):
            identifier = point.id
            if identifier is None and pattern:
                try:
                    identifier = pattern.expand({**values, "point": point.point, "tag": point.tag})
                except PatternError as error:
                    path = device.path(index)
                    message = f"{subject(path, device.source)}{error}"
                    self.report(device.source, path, message, "add the tag, or an id for this point")
            result.append(identifier)
            if identifier is None:
                continue
            finding = check_identifier(identifier)
            if finding and (
                point.id is not None or finding != foreign
            ):  # a foreign prefix was reported where it stands
                where = _path(device, index)
                message = f"{subject(where, device.source)}the identifier {identifier!r} {finding.message}"
                place = device.source.locate(where)
                self.problems.append(Problem.at(place, message, finding.hint, finding.severity))
            self._take(identifier, device, index)
        return tuple(result)

    def _pattern(self, device: CheckedDevice, prefix: str | None) -> Pattern | None:
        """The device's pattern; None when there is none or it cannot be used, which is reported where it stands."""
        own, path = device.config.identifiers, ("identifiers", "pattern")
        if not (own or self._config):
            return None
        text = own.pattern if own else None
        source = device.source if text or not self._source else self._source
        text = text or (self._config.pattern if self._config else DEFAULT_PATTERN)
        try:
            pattern = Pattern(text)
        except PatternError as error:
            self.report(source, path, f"identifiers.pattern: {error}")
            return None
        if "prefix" in pattern.names and not prefix:
            message = f"identifiers: the pattern {text!r} uses {{prefix}}, but there is no prefix"
            self.report(source, path, message, 'add what the secondary node assigned, such as prefix: "88.118.8"')
            return None
        if not pattern.names & {"point", "tag"} and sum(point.id is None for point in device.config.every_point) > 1:
            message = f"identifiers: the pattern {text!r} gives all points of a device the same identifier"
            self.report(source, path, message, "use {point} or {tag} in the pattern")
            return None
        return pattern

    def _take(self, identifier: str, device: CheckedDevice, index: int) -> None:
        other, first = self._taken.setdefault(identifier, (device, index))
        if (other, first) == (device, index):
            return
        point, name = other.config.every_point[first], device.config.every_point[index].point
        if point.point == name and other.config.device == device.config.device:
            return  # the same point twice, which is reported as such
        path = _path(device, index)
        at = other.source.locate(other.path(first))
        where = f"{at.file}:{at.line}:{at.column}"
        message = f"the identifier {identifier!r} is taken by point {point.point} at {where}"
        self.report(device.source, path, subject(path, device.source) + message, "an identifier names one point only")


def _path(device: CheckedDevice, index: int) -> Path:
    path = device.path(index)
    return (*path, "id") if device.config.every_point[index].id is not None else path
