"""What gateway.yaml may hold. Device files belong to their adapters (`AdapterType.device_model`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, WithJsonSchema

from gateway.config import uscc
from gateway.contract.config import Governance, Name, StrictModel
from gateway.contract.quantities import Duration, parse_duration, parse_size
from gateway.identifiers import Pattern
from gateway.publishing.config import DestinationConfig

DEFAULT_PATTERN = "{prefix}/{device}.{point}"


def _industry(code: str) -> str:
    if not re.fullmatch(r"[A-T][0-9]{2,4}", code):
        raise ValueError(f"expected a letter and two to four digits of GB/T 4754 such as C26, found {code!r}")
    return code


def _region(code: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{5}", code):
        raise ValueError(f"expected the six digits of GB/T 2260 such as 370200, found {code!r}")
    return code


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"this machine knows no time zone {name!r}; expected a name such as Asia/Shanghai (Debian package tzdata)"
        ) from error
    return name


def _pattern(text: str) -> str:
    Pattern(text)
    return text


def _auto_size(value: Any) -> int | None:
    if value in (None, "auto"):
        return None
    try:
        return parse_size(value)
    except ValueError as error:
        raise ValueError(f"expected auto or a size such as 20GB, found {value!r}") from error


def _auto_duration(value: Any) -> float | None:
    if value in (None, "auto"):
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"expected auto or a duration such as 200ms or 2s, found {value!r}") from error


def _folder(path: Path, info: ValidationInfo) -> Path:
    base = info.context.get("folder") if info.context else None
    return base / path if base else path


def _listen(value: Any) -> str:
    host, _, port = str(value).rpartition(":")
    if not isinstance(value, str) or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"expected host:port such as 127.0.0.1:9464, found {value!r}")
    return value


AutoSize = Annotated[
    int | None,
    BeforeValidator(_auto_size),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(auto|[0-9]+(\.[0-9]+)?\s*([KMGT]B|[KMG]iB|B))$", "examples": ["auto", "20GB"]}
    ),
]
"""Bytes; None = auto"""

AutoDuration = Annotated[
    float | None,
    BeforeValidator(_auto_duration),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(auto|[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h|d))$", "examples": ["auto", "2s"]}
    ),
]
"""Seconds; None = auto"""


class GatewayConfig(StrictModel):
    """Which box this is and whose."""

    id: Name = Field(description="name of this gateway, unique in the enterprise; a topic level")
    name: str | None = Field(default=None, description="display name, free text")
    enterprise: Annotated[str, AfterValidator(uscc.validate)] = Field(
        description="统一社会信用代码 (GB 32100), 18 characters, checked; in quotes"
    )
    region: Annotated[str, AfterValidator(_region)] | None = Field(
        default=None, description='行政区划代码 (GB/T 2260), six digits in quotes, such as "370200"'
    )
    industry: Annotated[str, AfterValidator(_industry)] | None = Field(
        default=None, description="国民经济行业分类 (GB/T 4754), such as C26"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="Asia/Shanghai", description="days of the account begin at midnight of this zone; readings carry UTC"
    )


class IdentifiersConfig(StrictModel):
    """How points get their industrial-internet identifiers (标识)."""

    prefix: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description='what the secondary node assigned, in quotes: "88.118.8"'
    )
    pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        default=DEFAULT_PATTERN, description="may name {prefix} {gateway} {device} {point} {tag}"
    )


class LogConfig(StrictModel):
    """The durable log on this box."""

    path: Annotated[Path, AfterValidator(_folder)] = Field(
        default=Path("/var/lib/edge-gateway"),
        description="a folder on a disk that survives a power cut; relative to the config folder",
    )
    budget: AutoSize = Field(
        default=None, description="auto = the smaller of 20GB and 40 % of the file system; 10 % always stays free"
    )
    keep: Duration = Field(default=180 * 86400.0, description="delivered readings stay this long, as the budget allows")
    when_full: Literal["drop-oldest", "stop-acquiring"] = Field(
        default="drop-oldest", description="drop-oldest counts what it drops; stop-acquiring makes gaps instead"
    )
    commit: AutoDuration = Field(
        default=None, description="least time between two commits; auto = 200ms on SSD, 2s on eMMC and SD cards"
    )


class MetricsConfig(StrictModel):
    """Prometheus metrics and health pages."""

    listen: Annotated[str, BeforeValidator(_listen)] = Field(
        default="127.0.0.1:9464", description="host:port; port 0 takes any free one"
    )

    @property
    def host(self) -> str:
        """Host to bind."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port; 0 = any."""
        return int(self.listen.rpartition(":")[2])


class ReloadConfig(StrictModel):
    """When a changed config is taken over without a restart; SIGHUP and `edge-gateway reload` always do."""

    watch: bool = Field(default=False, description="true: also when a file of the config has changed")


class GatewayFile(StrictModel):
    """The whole of gateway.yaml."""

    gateway: GatewayConfig
    identifiers: IdentifiersConfig | None = None
    governance: Governance = Field(
        default_factory=Governance, description="labels of every point that has no others; nothing leaves unlabelled"
    )
    log: LogConfig = Field(default_factory=LogConfig)
    destinations: tuple[DestinationConfig, ...] = ()
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    reload: ReloadConfig = Field(default_factory=ReloadConfig)
