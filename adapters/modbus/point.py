"""The keys of a Modbus point: where it is and what it holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from adapters.modbus.address import CELLS, Address, parse_address
from gateway.contract import Duration, PointConfig, ValueType
from gateway.contract.config import StrictModel

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
    TIMESTAMP = "timestamp"


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
    RegisterType.TIMESTAMP: ValueType.STRING,
}
_NUMBERS: Final = frozenset(RegisterType) - {
    RegisterType.BOOL,
    RegisterType.STRING,
    RegisterType.BYTES,
    RegisterType.TIMESTAMP,
}
_SIGNED: Final = (RegisterType.INT16, RegisterType.INT32, RegisterType.INT64, RegisterType.BCD)
_SIZED: Final = (RegisterType.BCD, RegisterType.STRING, RegisterType.BYTES)

Order = Literal["ABCD", "CDAB", "BADC", "DCBA", "ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"]
_WORD_SWAPPED: Final = ("CDAB", "DCBA", "GHEFCDAB", "HGFEDCBA")
_BYTE_SWAPPED: Final = ("BADC", "DCBA", "BADCFEHG", "HGFEDCBA")


TimestampFormat = Literal["unix", "unix-ms", "calendar", "bcd", "iec"]
TIMESTAMP_WORDS: Final[dict[str, int]] = {"unix": 2, "unix-ms": 4, "calendar": 6, "bcd": 3, "iec": 4}


class TotaliserConfig(StrictModel):
    """A counter that only goes up."""

    range: float = Field(gt=0, description="the number at which it begins again, as read (before scale), such as 1e6")


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
    sign: Literal["twos-complement", "magnitude"] = Field(
        default="twos-complement",
        description="magnitude: the highest bit of an int16, int32, int64 or bcd is the sign, the others the amount",
    )
    invalid: tuple[int | float, ...] = Field(
        default=(),
        description="numbers that stand for no value, such as [0x7FFF, 0x8000], as read (before scale): the reading is "
        "Bad with the reason sensor. Integers are compared by their bits, so -1 and 0xFFFF are the same",
    )
    totaliser: bool | TotaliserConfig = Field(
        default=False,
        description="a counter that only goes up: when it goes back the reading is marked `wrapped` or `reset`. true "
        "takes the range of the type",
    )
    format: TimestampFormat | None = Field(
        default=None,
        description="type timestamp: unix (seconds, 2 registers), unix-ms (4), calendar (6 registers: year, month, "
        "day, hour, minute, second), bcd (3 registers YYMM DDhh mmss), iec (4 registers of IEC 60870-5-4)",
    )
    zone: str = Field(
        default="UTC",
        description="type timestamp, but for unix formats: time zone of the device, such as Asia/Shanghai",
    )
    every: Duration | None = Field(default=None, description="poll period of this point instead of the device's")

    @property
    def register_type(self) -> RegisterType:
        """The type, with the default of coils and discrete inputs filled in."""
        return self.type or RegisterType.BOOL

    @property
    def value_type(self) -> ValueType:
        """Type of the point's readings; arrays are lists."""
        if self.count is not None:
            return ValueType.JSON
        if self.register_type is RegisterType.BCD and self.sign == "magnitude":
            return ValueType.INT64
        return _VALUE_TYPES[self.register_type]

    @property
    def totaliser_range(self) -> float | None:
        """What a totaliser counts up to; None if the point is none."""
        if isinstance(self.totaliser, TotaliserConfig):
            return self.totaliser.range
        if not self.totaliser:
            return None
        if self.register_type is RegisterType.BCD:
            return float(10 ** (4 * self.words))
        return 2.0 ** (self._bits - 1 if self.register_type.startswith("int") else self._bits)

    @property
    def _bits(self) -> int:
        """Of one number."""
        return 8 if self.register_type in (RegisterType.INT8, RegisterType.UINT8) else 16 * self.words

    @property
    def words(self) -> int:
        """Registers of one value."""
        if self.register_type is RegisterType.BCD:
            return self.length or 1
        if self.register_type in (RegisterType.STRING, RegisterType.BYTES):
            return ((self.length or 1) + 1) // 2
        if self.register_type is RegisterType.TIMESTAMP:
            return TIMESTAMP_WORDS[self.format or "unix"]
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
        self._check_numbers()
        self._check_timestamp()
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
        if self.count is not None and type in (*_SIZED, RegisterType.TIMESTAMP):
            raise ValueError(f"count cannot be combined with {type}; make one point for each value")

    def _check_numbers(self) -> None:
        type, number = self.register_type, self.count is None and self.register_type in _NUMBERS
        if self.sign == "magnitude" and (self.count is not None or type not in _SIGNED):
            raise ValueError(f"sign: magnitude is for int16, int32, int64 and bcd, not for {type}")
        if self.totaliser and not number:
            raise ValueError(f"a totaliser is one number; {type} {'with count ' if self.count else ''}is not")
        if self.totaliser is True and type.value.startswith("float"):
            raise ValueError("a float does not say where it wraps: write totaliser: {range: 1e6} with its range")
        if self.invalid and (not number or type is RegisterType.BCD):
            raise ValueError(f"invalid is for integers and floats, not for {type}{' with count' if self.count else ''}")
        if self.invalid and not type.value.startswith("float"):
            for found in self.invalid:
                if not (-(1 << self._bits - 1) <= found < 1 << self._bits and found == int(found)):
                    raise ValueError(f"invalid: {found} does not fit into {type}")

    def _check_timestamp(self) -> None:
        if (self.register_type is RegisterType.TIMESTAMP) != (self.format is not None):
            raise ValueError(
                "type timestamp needs a format: unix, unix-ms, calendar, bcd or iec"
                if self.format is None
                else f"format is only for type timestamp, not for {self.register_type}"
            )
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"zone: expected a time zone such as Asia/Shanghai, found {self.zone!r}") from error

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
