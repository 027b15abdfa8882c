"""The keys that every device and every point has; adapters subclass these models with their own keys.

A device file is checked against its adapter's `device_model`. Unknown keys are errors.
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.contract.quantities import Deadband, DeadbandRule, Duration

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Gateway, device and point names: they become topic levels, and brokers disagree about anything else."""


class StrictModel(BaseModel):
    """A part of the config: no unknown keys, no change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Domain(StrEnum):
    """Data domains of the 2020 classification guideline for industrial enterprises (工信厅信发〔2020〕6号)."""

    RESEARCH = "research"
    PRODUCTION = "production"
    OPERATION = "operation"
    MANAGEMENT = "management"
    EXTERNAL = "external"


class DataClass(StrEnum):
    """Classes of the data security measures (工信部网安〔2022〕166号, article 8)."""

    GENERAL = "general"
    IMPORTANT = "important"
    CORE = "core"


class Governance(StrictModel):
    """Labels. Each is inherited from the gateway and the device unless given here; none may be missing in the end."""

    domain: Domain | None = None
    grade: Literal[1, 2, 3] | None = Field(default=None, description="3 is the highest (三级), 1 the lowest")
    data_class: DataClass | None = Field(default=None, alias="class")


class IdentifierOverride(StrictModel):
    """A device's own prefix or pattern for identifiers."""

    prefix: str | None = None
    pattern: str | None = None


class AnyPointConfig(StrictModel):
    """Keys of every point, read or derived."""

    point: Name
    name: str | None = Field(default=None, description="display name, free text")
    tag: str | None = Field(default=None, description="plant tag (位号), free text")
    unit: str | None = Field(default=None, description="engineering unit, free text; it travels as written")
    description: str | None = None
    id: str | None = Field(default=None, description="identifier of this point instead of the pattern's")
    governance: Governance | None = None
    range: tuple[float, float] | None = Field(
        default=None,
        description="lowest and highest value in the unit of the point, such as [0, 1.6]; a Good reading outside "
        "travels as Uncertain (out_of_range)",
    )
    deadband: DeadbandRule | None = Field(
        default=None, description='smallest change that is recorded, such as 0.5, or "1%" of the range; off: every one'
    )
    max_silence: Duration | None = Field(
        default=None,
        description="record only readings that changed, and one at least this often; with a deadband the longest wait",
    )

    @model_validator(mode="after")
    def _range_and_deadband(self) -> Self:
        if self.range is not None and not (self.range[0] < self.range[1] and all(map(isfinite, self.range))):
            low, high = self.range
            raise ValueError(f"range: the lower number comes first, such as [0, 100]; found [{low:g}, {high:g}]")
        if self.recorded_deadband is not None and self.recorded_deadband.percent and self.range is None:
            raise ValueError("deadband: percent of what? Add range: [LOW, HIGH], or write it in the unit of the point")
        return self

    @property
    def recorded_deadband(self) -> Deadband | None:
        """What the gateway leaves out; None where the source does that itself, or nobody."""
        return self.deadband

    @property
    def smallest_change(self) -> float | None:
        """The change above which a reading is recorded, in the unit of the point; None = every reading is."""
        deadband = self.recorded_deadband
        if deadband is None:
            return None if self.max_silence is None else 0.0
        low, high = self.range or (0.0, 100.0)
        return deadband.value * (high - low) / 100 if deadband.percent else deadband.value


class PointConfig(AnyPointConfig):
    """Keys of one point that is read, whatever its protocol."""

    scale: float | None = Field(default=None, description="reading = raw x scale + offset")
    offset: float | None = None
    convert_to: str | None = Field(
        default=None,
        description="unit in which the point is recorded, where that is not `unit`, such as kPa; range and deadband "
        "are in this unit",
    )


class WindowConfig(StrictModel):
    """One value for each stretch of time, made of all readings in it."""

    of: Name = Field(description="a point of this device")
    over: Duration = Field(description="1s to 1h; windows begin at whole multiples of it (UTC)")
    kind: Literal["min", "max", "mean", "last", "count"]

    @model_validator(mode="after")
    def _length(self) -> Self:
        if not 1 <= self.over <= 3600:
            raise ValueError("over: expected 1s to 1h")
        return self


class DerivedPointConfig(AnyPointConfig):
    """A point that is computed from points of the same device, before the log."""

    expression: str | None = Field(
        default=None,
        description='over names of points of this device, such as "(p_in - p_out) * 1000": + - * / ** %, comparisons, '
        "and, or, not, A if CONDITION else B, abs, max, min, sqrt; {t-1} is the point t-1",
    )
    window: WindowConfig | None = Field(
        default=None, description="instead of an expression: a value per stretch of time"
    )
    max_age: Duration | None = Field(
        default=None,
        description="an operand that is older than this makes the result Bad; left out, the last value holds",
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.expression is None) == (self.window is None):
            raise ValueError("a derived point has an expression or a window, one of them")
        if self.window is not None and self.max_age is not None:
            raise ValueError("max_age is for an expression; a window holds nothing but its own readings")
        return self

    @property
    def scale(self) -> None:
        """The expression says it all."""
        return

    @property
    def offset(self) -> None:
        """The expression says it all."""
        return


class DeviceConfig(StrictModel):
    """Keys of one device file, whatever its protocol. Adapters narrow `points` to their own point model."""

    device: Name
    name: str | None = Field(default=None, description="display name, free text")
    adapter: str
    template: Name | None = Field(default=None, description="point table in templates/, shared by equal machines")
    parameters: dict[str, str | int | float | bool] | None = Field(
        default=None, description="this device's values for the parameters of its template"
    )
    without: tuple[Name, ...] = Field(default=(), description="points of the template that this device does not have")
    governance: Governance | None = None
    identifiers: IdentifierOverride | None = None
    points: tuple[PointConfig, ...] = Field(min_length=1)
    derived: tuple[DerivedPointConfig, ...] = Field(
        default=(), description="points that are computed from those of this device; they may stand among `points` too"
    )

    @property
    def every_point(self) -> tuple[AnyPointConfig, ...]:
        """Those that are read, then the derived ones."""
        return (*self.points, *self.derived) if self.derived else self.points

    @property
    def is_staged(self) -> bool:
        """Whether readings are checked, derived or left out between normaliser and log."""
        return bool(self.derived) or any(point.range or point.smallest_change is not None for point in self.points)
