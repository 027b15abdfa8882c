"""asyncua believes every length that a server sends; here it learns to compare them with the bytes that are there.

Without that a ReadResponse of seventy bytes keeps the whole process busy for ever: a negative length of a string takes
the reader back, an array of two thousand million nothings needs no bytes at all, and dimensions of a matrix are filled
up with a million empty lists. Everything else in the answer of a server that is not a PublishResponse, a value or a
history comes through asyncua, from the first answer on, before anybody has logged in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua import ua_binary
from asyncua.ua.uaerrors import UaError

from adapters.opcua.decoding.variant import matrix

_Read = Callable[[Any], Any]

FACTORIES: Final = ("_create_list_deserializer", "_create_uatype_array_deserializer")
"""asyncua's makers of what reads an array: a length, then so many elements"""
_MAKERS_OF_WHOLES: Final = ("_create_type_deserializer", "_create_dataclass_deserializer")
"""those that keep what the others have made"""


def check_lengths() -> None:
    """Once in a process, before anything is decoded."""
    module: Any = ua_binary
    for name in ("read", "skip"):
        setattr(Buffer, name, _forwards(getattr(Buffer, name)))
    for name in FACTORIES:
        setattr(module, name, _bounded(getattr(module, name)))
    for name in _MAKERS_OF_WHOLES:
        getattr(module, name).cache_clear()
    module._reshape = _shaped


def _forwards(step: Callable[[Buffer, int], Any]) -> Callable[[Buffer, int], Any]:
    @functools.wraps(step)
    def move(buffer: Buffer, size: int) -> Any:
        if size < 0:
            raise NotEnoughData(f"a length of {size}")
        return step(buffer, size)

    return move


def _bounded(make: Callable[[Any], _Read]) -> Callable[[Any], _Read]:
    """No element takes less than a byte."""

    @functools.cache
    def made(kind: Any) -> _Read:
        read = make(kind)

        def array(data: Buffer) -> Any:
            length = int.from_bytes(data.copy().read(4), "little", signed=True)
            if length > len(data):
                raise NotEnoughData(f"an array of {length} elements in {len(data)} bytes")
            return read(data)

        return array

    return made


def _shaped(flat: Any, dimensions: list[int] | None) -> list[Any]:
    values = list(flat)
    found = matrix(values, dimensions) if dimensions else values
    if found is None:
        raise UaError(f"{len(values)} elements do not fill {len(dimensions or ())} dimensions")
    return found
