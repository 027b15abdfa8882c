"""The keys of a Modbus device file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from adapters.modbus.address import CELLS, Address, parse_address
from adapters.modbus.url import Place, parse_url
from gateway.contract import DeviceConfig, Duration, PointConfig, ValueType
from gateway.contract.config import StrictModel

TIMEOUT_S: Final = 1.0
DIAL_IN_TIMEOUT_S: Final = 5.0
"""a reply over a mobile network takes its time"""

AddressText = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^((holding|input|coil|discrete) +[0-9]+|modicon +[0134][0-9]{4,5})$",
            "examples": ["holding 0", "input 12", "coil 3", "discrete 0", "modicon 40001", "modicon 400001"],
        }
    ),
]


class RegisterType(StrEnum):
    """What a point's registers or bits hold."""

    BOOL = "bool"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD = "bcd"
    STRING = "string"
    BYTES = "bytes"


_WORDS: Final = {
    RegisterType.INT32: 2,
    RegisterType.UINT32: 2,
    RegisterType.FLOAT32: 2,
    RegisterType.INT64: 4,
    RegisterType.UINT64: 4,
    RegisterType.FLOAT64: 4,
}
_VALUE_TYPES: Final = {
    RegisterType.BOOL: ValueType.BOOL,
    RegisterType.UINT8: ValueType.UINT64,
    RegisterType.UINT16: ValueType.UINT64,
    RegisterType.UINT32: ValueType.UINT64,
    RegisterType.UINT64: ValueType.UINT64,
    RegisterType.INT8: ValueType.INT64,
    RegisterType.INT16: ValueType.INT64,
    RegisterType.INT32: ValueType.INT64,
    RegisterType.INT64: ValueType.INT64,
    RegisterType.FLOAT16: ValueType.FLOAT32,
    RegisterType.FLOAT32: ValueType.FLOAT32,
    RegisterType.FLOAT64: ValueType.FLOAT64,
    RegisterType.BCD: ValueType.UINT64,
    RegisterType.STRING: ValueType.STRING,
    RegisterType.BYTES: ValueType.BYTES,
}
_SIZED: Final = (RegisterType.BCD, RegisterType.STRING, RegisterType.BYTES)

Order = Literal["ABCD", "CDAB", "BADC", "DCBA", "ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"]
_WORD_SWAPPED: Final = ("CDAB", "DCBA", "GHEFCDAB", "HGFEDCBA")
_BYTE_SWAPPED: Final = ("BADC", "DCBA", "BADCFEHG", "HGFEDCBA")


class ModbusPointConfig(PointConfig):
    """One point: where it is and what it holds."""

    address: AddressText = Field(
        description='"holding 0", "input 0", "coil 0", "discrete 0" count from 0 as in the protocol; '
        '"modicon 40001" counts from 1. A bare number is refused.'
    )
    type: RegisterType | None = Field(
        default=None,
        description="required for registers, bool for coils and discrete inputs. int8 and uint8 are the low byte of "
        "one register; bool in a register is true when the register is not 0, or when its `bit` is set",
    )
    order: Order = Field(
        default="ABCD",
        description="order of the bytes as sent, A being the most significant. CDAB swaps the words, BADC the bytes "
        "of each word, DCBA both; the same four rules hold for 64 bits, where the eight-letter names may be used. "
        "One register knows only ABCD and BADC; string and bytes too",
    )
    length: int | None = Field(
        default=None,
        ge=1,
        description="string, bytes: length in bytes (two to a register; required). bcd: length in registers of four "
        "digits (1 to 4, default 1). Not for other types",
    )
    count: int | None = Field(
        default=None, ge=1, description="makes the point an array of so many values, one after the other"
    )
    bit: int | None = Field(
        default=None, ge=0, le=15, description="bool in a register: which bit, 0 being the least significant"
    )
    every: Duration | None = Field(default=None, description="poll period of this point instead of the device's")

    @property
    def register_type(self) -> RegisterType:
        """The type, with the default of coils and discrete inputs filled in."""
        return self.type or RegisterType.BOOL

    @property
    def value_type(self) -> ValueType:
        """Type of the point's readings; arrays are lists."""
        return ValueType.JSON if self.count is not None else _VALUE_TYPES[self.register_type]

    @property
    def words(self) -> int:
        """Registers of one value."""
        if self.register_type is RegisterType.BCD:
            return self.length or 1
        if self.register_type in (RegisterType.STRING, RegisterType.BYTES):
            return ((self.length or 1) + 1) // 2
        return _WORDS.get(self.register_type, 1)

    @property
    def cells(self) -> int:
        """Registers (or bits, in a table of bits) that the whole point covers."""
        return self.words * (self.count or 1)

    @property
    def swaps_words(self) -> bool:
        """Whether the least significant word comes first."""
        return self.order in _WORD_SWAPPED

    @property
    def swaps_bytes(self) -> bool:
        """Whether the low byte of each word comes first."""
        return self.order in _BYTE_SWAPPED

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        table = self.address.table
        kind = table.name.lower()
        if table.is_bits and self.register_type is not RegisterType.BOOL:
            raise ValueError(f"a {kind} holds one bit: type must be bool or left out, found {self.type}")
        if not table.is_bits and self.type is None:
            raise ValueError(f"a {kind} register does not say what it holds: add a type, e.g. type: float32")
        if self.bit is not None and (table.is_bits or self.register_type is not RegisterType.BOOL):
            raise ValueError("bit is only for type bool in a holding or input register; remove it or change the type")
        self._check_length()
        self._check_order()
        if self.address.offset + self.cells > CELLS:
            raise ValueError(f"{self.address} with {self.cells} cells ends beyond the last address, {CELLS - 1}")
        return self

    def _check_length(self) -> None:
        type = self.register_type
        if self.length is not None and type not in _SIZED:
            raise ValueError(f"length is only for bcd, string and bytes, not for {type}; count makes an array")
        if self.length is None and type in (RegisterType.STRING, RegisterType.BYTES):
            raise ValueError(f"type {type} needs a length in bytes, e.g. length: 16")
        if type is RegisterType.BCD and self.words > 4:
            raise ValueError(f"bcd: length counts registers of four digits, at most 4, found {self.length}")
        if self.count is not None and type in _SIZED:
            raise ValueError(f"count cannot be combined with {type}; make one point for each value")

    def _check_order(self) -> None:
        if len(self.order) == 8 and self.words != 4:
            raise ValueError(
                f"order {self.order} names eight bytes, but {self.register_type} has {2 * self.words}; "
                "use ABCD, CDAB, BADC or DCBA"
            )
        if self.swaps_words and (
            self.register_type in (RegisterType.STRING, RegisterType.BYTES) or self.address.table.is_bits
        ):
            raise ValueError(
                f"order {self.order} swaps words, which {self.register_type} does not have; use ABCD or BADC"
            )


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
    max_registers: int = Field(default=125, ge=1, le=125, description="registers in one request")
    max_bits: int = Field(default=2000, ge=1, le=2000, description="coils or discrete inputs in one request")
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
