"""How structures and unions are laid out (Part 3, 8.48 StructureDefinition; Part 6, 5.2.6 and 5.2.7). Pure.

The structures of the standard come from asyncua's classes; a server's own from the DataTypeDefinition attributes of its
data types. Definitions belong to one server: type ids of two servers may be equal and mean different things.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import struct
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from asyncua import ua

from adapters.opcua.decoding.layouts import DIAGNOSTIC_INFO, EXTENSION_OBJECT, FORMATS, INT32, UINT32, VARIANT

NUMBER, INTEGER, UINTEGER, ENUMERATION = 26, 27, 28, 29
"""numeric ids of the abstract data types of namespace 0 (Part 6, annex A: NodeIds.csv)"""
_ABSTRACT: Final = {NUMBER: VARIANT, INTEGER: VARIANT, UINTEGER: VARIANT, ENUMERATION: INT32}

_MOST_UNKNOWN: Final = 1000
"""encodings without a definition that are remembered; garbage may bring any number"""


class Field(NamedTuple):
    """A field of a structure."""

    name: str
    type: int
    """built-in type id; of a nested structure, EXTENSION_OBJECT"""
    nested: str | None = None
    """data type id of a nested structure that is encoded without type and length"""
    rank: int = -1
    """-1 a scalar, 1 an array, more a matrix of so many dimensions (Part 3, 5.6.2)"""
    optional: bool = False


class Piece(NamedTuple):
    """Fields of a structure that are read together: mandatory numbers that follow each other, or any one field."""

    names: tuple[str, ...]
    numbers: struct.Struct | None
    field: Field
    """the only one, or the first of the numbers"""


@dataclasses.dataclass(frozen=True)
class Structure:
    """A structure, or a union: of whose fields one is there at most."""

    fields: tuple[Field, ...]
    union: bool = False

    @functools.cached_property
    def masked(self) -> bool:
        """Whether a mask says which fields are there."""
        return any(field.optional for field in self.fields)

    @functools.cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All fields in their order, for a structure that is no union."""
        pieces: list[Piece] = []
        for is_number, group in itertools.groupby(self.fields, _is_number):
            fields = [*group]
            if is_number:
                formats = "".join(FORMATS[field.type] for field in fields)
                names = tuple(field.name for field in fields)
                pieces.append(Piece(names, struct.Struct(f"<{formats}"), fields[0]))
            else:
                pieces += [Piece((field.name,), None, field) for field in fields]
        return tuple(pieces)


def _is_number(field: Field) -> bool:
    return field.type in FORMATS and field.rank < 0 and not field.optional


class Structures:
    """What is known of one server's structures. Ids are texts like "i=884" or "ns=2;i=5", as the server writes them."""

    def __init__(self) -> None:
        self._by_encoding: dict[str, str] = {}
        self._by_type: dict[str, Structure] = {}
        self._met: set[str] = set()
        self._asked: set[str] = set()

    def by_encoding(self, id: str) -> Structure | None:
        """The structure whose binary encoding has this id; None = unknown, so its values stay opaque."""
        type = self._by_encoding.get(id)
        known = self._by_type.get(type) if type else _standard(_by_encoding(), id)
        if known is None and len(self._met) < _MOST_UNKNOWN:
            self._met.add(id)
        return known

    def to_be_learnt(self) -> bool:
        """Whether an unknown structure has been met since the last call; each is told once."""
        new = self._met - self._asked
        self._asked |= new
        return bool(new)

    def by_type(self, id: str) -> Structure | None:
        """The structure with this data type id."""
        return self._by_type.get(id) or _standard(_by_type(), id)

    def add(self, types: Mapping[str, ua.StructureDefinition], bases: Mapping[str, int]) -> list[str]:
        """Learn data types by id, with their definitions; returns the ids that are left opaque.

        `bases`: built-in type id of every other data type in a field (an enumeration's is INT32, a Duration's DOUBLE).
        A structure with a field of a type that is in neither cannot be decoded.
        """
        left = []
        for id, definition in types.items():
            fields = [self._field(field, definition, types, bases) for field in definition.Fields or ()]
            found = [field for field in fields if field is not None]
            if len(found) < len(fields) or definition.DefaultEncodingId.is_null():
                left.append(id)
                continue
            union = definition.StructureType in (ua.StructureType.Union, ua.StructureType.UnionWithSubtypedValues)
            self._by_type[id] = Structure(tuple(found), union)
            self._by_encoding[definition.DefaultEncodingId.to_string()] = id
        return left

    def forget(self, types: Iterable[str]) -> None:
        """Unlearn data types by id, with those of their fields: their values are opaque until they are learnt again."""
        waiting = [*types]
        while waiting:
            type = waiting.pop()
            known = self._by_type.pop(type, None)
            if known is not None:
                waiting += [field.nested for field in known.fields if field.nested is not None]
                self._by_encoding = {id: other for id, other in self._by_encoding.items() if other != type}

    def _field(
        self,
        field: ua.StructureField,
        definition: ua.StructureDefinition,
        types: Iterable[str],
        bases: Mapping[str, int],
    ) -> Field | None:
        kind = definition.StructureType
        subtyped = (
            kind in (ua.StructureType.StructureWithSubtypedValues, ua.StructureType.UnionWithSubtypedValues)
            and field.IsOptional  # means "may be a subtype" in these (Part 3, 8.51)
        )
        id = field.DataType.to_string()
        structure = id in types or self.by_type(id) is not None
        type = EXTENSION_OBJECT if structure else _built_in(id, bases)
        if type is None or field.ValueRank < -1 or field.ValueRank == 0:
            return None
        if subtyped and not structure:
            type = VARIANT
        optional = kind == ua.StructureType.StructureWithOptionalFields and bool(field.IsOptional)
        return Field(str(field.Name), type, id if structure and not subtyped else None, field.ValueRank, optional)


def _built_in(id: str, bases: Mapping[str, int]) -> int | None:
    if id in bases:
        return bases[id]
    number = id.removeprefix("i=")
    if number == id or not number.isdecimal():
        return None
    return encoded_as(int(number))


def encoded_as(number: int) -> int | None:
    """The built-in type as which values of a data type of namespace 0 are encoded; None where its number alone does
    not tell.
    """
    return number if 0 < number <= DIAGNOSTIC_INFO else _ABSTRACT.get(number)


@functools.cache
def _by_encoding() -> dict[str, Any]:
    # asyncua keeps the types of every server that it has seen in the same table; only the standard's mean one thing.
    types = ua.extension_objects_by_typeid
    return {id.to_string(): cls for id, cls in types.items() if id.NamespaceIndex == 0}


@functools.cache
def _by_type() -> dict[str, Any]:
    classes = (cls for cls in _by_encoding().values() if hasattr(cls, "data_type"))
    return {cls.data_type.to_string(): cls for cls in classes if cls.data_type.NamespaceIndex == 0}


def _standard(classes: Mapping[str, Any], id: str) -> Structure | None:
    cls = classes.get(id)
    return None if cls is None else _from_class(cls)


@functools.cache
def _from_class(cls: Any) -> Structure | None:
    """The layout of one of asyncua's classes; None where it says too little (optional fields, abstract types)."""
    if issubclass(cls, ua.UaUnion) or cls.__name__ == "Union" or not dataclasses.is_dataclass(cls):
        return None
    try:
        hints = typing.get_type_hints(cls, {**vars(ua), "ua": ua})
    except (AttributeError, NameError):  # a name that asyncua does not define
        return None
    fields = [_from_hint(field.name, hints[field.name]) for field in dataclasses.fields(cls)]
    found = tuple(field for field in fields if field is not None)
    return Structure(found) if len(found) == len(fields) else None


def _from_hint(name: str, hint: Any) -> Field | None:
    rank: Final = 1 if typing.get_origin(hint) is list else -1
    cls = typing.get_args(hint)[0] if rank == 1 else hint
    if not isinstance(cls, type) or typing.get_origin(cls) is not None:
        return None
    if cls.__name__ in ua.VariantType.__members__:
        return Field(name, ua.VariantType[cls.__name__].value, None, rank)
    if issubclass(cls, enum.Enum):
        if not issubclass(cls, enum.IntFlag):
            return Field(name, INT32, None, rank)  # enumerations (Part 6, 5.2.4)
        width: Any = getattr(cls, "datatype", None)  # option sets
        return Field(name, ua.VariantType[width()].value if width else UINT32, None, rank)
    if hasattr(cls, "data_type"):
        return Field(name, EXTENSION_OBJECT, cls.data_type.to_string(), rank)
    return None


STANDARD: Final = Structures()
"""the structures of namespace 0 alone"""
