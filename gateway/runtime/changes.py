"""What is different between two configs, and what a reload would do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config.load import LoadedConfig, LoadedDevice
from gateway.publishing.config import DestinationConfig

_BY_OTHER_MEANS: Final = frozenset({"gateway", "identifiers", "governance", "destinations", "reload"})
"""keys of gateway.yaml that show in devices or destinations, or are looked at one by one or when needed"""
_FIXED: Final = ("id", "enterprise")
_MOST_LINES: Final = 20
_GONE: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """By name: what is new, changed and gone; of the changed, which keys from what to what."""

    added: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def names(self) -> list[str]:
        """All of them."""
        return sorted({*self.added, *self.changed, *self.removed})

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        changed = {name: list(lines) for name, lines in self.changed.items()}
        return {"added": list(self.added), "changed": changed, "removed": list(self.removed)}


@dataclass(frozen=True, slots=True)
class Changes:
    """From the config in force to another."""

    devices: Difference
    destinations: Difference
    impossible: tuple[str, ...]
    """what a running gateway cannot take over, in sentences"""

    def __bool__(self) -> bool:
        return bool(self.devices or self.destinations or self.impossible)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "devices": self.devices.as_dict(),
            "destinations": self.destinations.as_dict(),
            "impossible": list(self.impossible),
        }


def changes(old: LoadedConfig, new: LoadedConfig) -> Changes:
    """Compare two checked configs."""
    devices = _difference(
        {device.name: device for device in old.devices}, {device.name: device for device in new.devices}, _device_lines
    )
    renewed = old.gateway.gateway.timezone != new.gateway.gateway.timezone

    def lines(before: DestinationConfig, after: DestinationConfig) -> tuple[str, ...]:
        found = tuple(_lines(before.model_dump(), after.model_dump()))
        return (*found, "gateway.timezone") if renewed else found

    destinations = _difference(
        {one.name: one for one in old.gateway.destinations}, {one.name: one for one in new.gateway.destinations}, lines
    )
    return Changes(devices, destinations, tuple(_impossible(old, new)))


def _impossible(old: LoadedConfig, new: LoadedConfig) -> Iterator[str]:
    for key in _FIXED:
        before, after = getattr(old.gateway.gateway, key), getattr(new.gateway.gateway, key)
        if before != after:
            yield (
                f"gateway.{key}: from {before} to {after}: that is another gateway, whose offsets begin anew; stop "
                "this one, and start it with the new config"
            )
    for key in type(old.gateway).model_fields.keys() - _BY_OTHER_MEANS:
        before, after = getattr(old.gateway, key), getattr(new.gateway, key)
        if before != after:
            inside = "; ".join(_lines({key: _plain(before)}, {key: _plain(after)}))
            yield f"{inside}: only a start takes this over; restart the gateway, or take it back"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], lines: Any) -> Difference:
    both = [name for name in new if name in old]
    changed = {name: found for name in both if (found := lines(old[name], new[name]))}
    return Difference(
        tuple(name for name in new if name not in old), changed, tuple(name for name in old if name not in new)
    )


def _device_lines(old: LoadedDevice, new: LoadedDevice) -> tuple[str, ...]:
    if _key(old) == _key(new):
        return ()
    if old.adapter.name != new.adapter.name:
        return (f"adapter: {old.adapter.name} -> {new.adapter.name}",)
    found = list(_lines(old.config.model_dump(), new.config.model_dump()))
    if _others(old, old.labels, new, new.labels) and not any("governance" in line for line in found):
        found.append("governance: other labels")
    if _others(old, old.identifiers, new, new.identifiers):
        found.append("identifiers: other ones")
    if len(found) > _MOST_LINES:
        found[_MOST_LINES:] = [f"and {len(found) - _MOST_LINES} more"]
    return tuple(found) or ("something that does not show",)


def _others(old: LoadedDevice, before: Sequence[Any], new: LoadedDevice, after: Sequence[Any]) -> bool:
    """Whether a point that both have has another one now; they run parallel to `every_point`."""
    had = {point.point: one for point, one in zip(old.config.every_point, before, strict=True)}
    has = {point.point: one for point, one in zip(new.config.every_point, after, strict=True)}
    return any(had[name] != has[name] for name in had.keys() & has.keys())


def _key(device: LoadedDevice) -> tuple[Any, ...]:
    return device.config, device.adapter.name, device.labels, device.identifiers


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value


def _lines(old: Any, new: Any) -> Iterator[str]:
    """`every: 1.0 -> 2.0` for each key that differs."""
    before, after = dict(_flat("", old)), dict(_flat("", new))
    gone: set[str] = set()
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key, _GONE), after.get(key, _GONE)
        if was == now:
            continue
        point = key.split(".")[1] if key.startswith("points.") else None
        if point is not None and (was is _GONE or now is _GONE):
            whole = f"points.{point}.point"
            if (whole in before) != (whole in after):
                if point not in gone:
                    gone.add(point)
                    yield f"{'+' if whole in after else '-'} point {point}"
                continue
        yield f"{key}: {_word(was)} -> {_word(now)}"


def _word(value: Any) -> str:
    return "nothing" if value is _GONE or value is None else str(value)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list | tuple) and value and all(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value):
            yield from _flat(f"{path}.{each.get('point', number)}", each)
    else:
        yield path, value
