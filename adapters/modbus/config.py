"""The keys of a Modbus device file: the way to the device, what it may be burdened with, its points."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from adapters.modbus.address import MOST_BITS, MOST_REGISTERS, CellRange, parse_range
from adapters.modbus.point import ModbusPointConfig
from adapters.modbus.url import Place, parse_url
from gateway.contract import DeviceConfig, Duration
from gateway.contract.config import StrictModel

TIMEOUT_S: Final = 1.0
DIAL_IN_TIMEOUT_S: Final = 5.0
"""a reply over a mobile network takes its time"""


RangeText = Annotated[
    CellRange,
    BeforeValidator(parse_range),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(holding|input|coil|discrete) +[0-9]+( *- *[0-9]+)?$"}),
]


class TlsConfig(StrictModel):
    """Certificates for tls://; files are read again at every connection."""

    ca: str = Field(description="certificates (PEM) of those who sign the devices' certificates")
    certificate: str = Field(description="our certificate (PEM); its role extension says what we may do")
    key: str = Field(description="private key of our certificate (PEM)")
    check_name: bool = Field(default=True, description="the device's certificate must name the host of the url")


class ModbusConnectionConfig(StrictModel):
    """How to reach the device."""

    url: str = Field(
        description="tcp://HOST[:502], tls://HOST[:802], udp://HOST[:502], rtu+tcp://HOST:PORT, ascii+tcp://HOST:PORT, "
        "serial:///dev/ttyUSB0?baud=9600&parity=E, or listen+rtu://ADDRESS:PORT?id=... where the device dials in",
        examples=["tcp://192.168.1.20:502", "serial:///dev/serial/by-id/usb-FTDI-if00?baud=9600&parity=E"],
    )
    station: int = Field(
        default=1,
        ge=0,
        le=255,
        description="the device's Modbus address (unit identifier): 1 to 247 on a line or behind a gateway; "
        "devices with their own network port mostly want 255, 1 or 0",
    )
    timeout: Duration | None = Field(
        default=None,
        description="longest wait for a connection or a reply; 1s, and 5s where the device dials in. On a serial port "
        "the time that request and reply take on the wire comes on top",
    )
    retries: int = Field(default=1, ge=0, le=5, description="how often a request without a good reply is repeated")
    turnaround: Duration = Field(
        default=0.0,
        description="silence on the line before this device is asked, for those that need time to turn around",
        json_schema_extra={"default": "0s"},
    )
    tls: TlsConfig | None = None

    @model_validator(mode="after")
    def _fits_url(self) -> Self:
        place = parse_url(self.url)
        if (place.scheme == "tls") != (self.tls is not None):
            raise ValueError(
                "a tls:// url needs connection.tls with ca, certificate and key"
                if self.tls is None
                else f"connection.tls is only for tls:// urls, found {self.url}"
            )
        if place.framing != "mbap" and not 1 <= self.station <= 247:
            raise ValueError(f"on a line stations are numbered 1 to 247, found station {self.station}")
        return self

    @property
    def place(self) -> Place:
        """What the url names."""
        return parse_url(self.url)

    @property
    def timeout_s(self) -> float:
        """The timeout with its default filled in, seconds."""
        if self.timeout is not None:
            return self.timeout
        return DIAL_IN_TIMEOUT_S if self.place.dial_in else TIMEOUT_S


class ModbusLoadConfig(StrictModel):
    """What the device may be burdened with; never exceeded."""

    connections: int = Field(default=1, ge=1, le=8, description="connections at the same time (tcp, tls, udp)")
    outstanding: int = Field(
        default=1, ge=1, le=16, description="requests on their way at the same time on one connection (tcp, tls, udp)"
    )
    requests_per_s: float | None = Field(default=None, gt=0, description="over all connections together")
    max_registers: int = Field(default=MOST_REGISTERS, ge=1, le=MOST_REGISTERS, description="registers in one request")
    max_bits: int = Field(default=MOST_BITS, ge=1, le=MOST_BITS, description="coils or discrete inputs in one request")
    max_gap: int = Field(
        default=8,
        ge=0,
        le=124,
        description="registers nobody asked for that may be read to merge two requests (16 bits count as one); "
        "0 where reading between the points is forbidden",
    )


class ModbusDeviceConfig(DeviceConfig):
    """A Modbus device file."""

    adapter: Literal["modbus"]
    connection: ModbusConnectionConfig
    load: ModbusLoadConfig = ModbusLoadConfig()
    every: Duration = Field(default=1.0, description="poll period of the points", json_schema_extra={"default": "1s"})
    unreadable: tuple[RangeText, ...] = Field(
        default=(),
        description='registers or bits that must never be read, not between two points either: ["holding 40-49"]',
    )
    points: tuple[ModbusPointConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _line_is_one(self) -> Self:
        place = self.connection.place
        if place.framing != "mbap" and (self.load.connections > 1 or self.load.outstanding > 1):
            raise ValueError(
                f"{place.scheme}:// is a line: one request at a time; remove load.connections and load.outstanding"
            )
        return self

    @model_validator(mode="after")
    def _nothing_unreadable_is_read(self) -> Self:
        for point in self.points:
            table, first = point.address
            for hole in self.unreadable:
                if hole.overlaps(CellRange(table, first, first + point.cells - 1)):
                    raise ValueError(f"point {point.point} lies in {hole}, which `unreadable` says must not be read")
        return self

    @model_validator(mode="after")
    def _points_fit_requests(self) -> Self:
        for point in self.points:
            bits = point.address.table.is_bits
            limit = self.load.max_bits if bits else self.load.max_registers
            if point.cells > limit:
                raise ValueError(
                    f"point {point.point} covers {point.cells} {'bits' if bits else 'registers'}, but load."
                    f"{'max_bits' if bits else 'max_registers'} allows {limit} in one request, and a value is never "
                    "torn over two: make the point smaller or split it"
                )
        return self
