"""`convert_to`: from one unit into another, as one more factor and offset of the point. Pure; exact until the end."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from gateway.contract.config import PointConfig
from gateway.units.table import find, nearest_spelling

_UNLIKE = {
    frozenset({"pressure", "gauge pressure"}): "whether the pressure is gauge or absolute is not said on one side",
    frozenset({"pressure", "absolute pressure"}): "whether the pressure is gauge or absolute is not said on one side",
    frozenset({"gauge pressure", "absolute pressure"}): "the pressure of the air is not known",
    frozenset({"volume flow", "normal volume flow"}): "pressure and temperature of the gas are not known",
    frozenset({"volume", "normal volume"}): "pressure and temperature of the gas are not known",
    frozenset({"volume flow", "mass flow"}): "the density is not known",
    frozenset({"density", "normal density"}): "pressure and temperature of the gas are not known",
}


class ConversionError(ValueError):
    """A conversion that cannot be: what is in its way, and the next step."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Converted(NamedTuple):
    """`value in the new unit = value x factor + offset`."""

    factor: Fraction
    offset: Fraction


def conversion(unit: str, convert_to: str) -> Converted:
    """From one unit into another. Raises `ConversionError` for units of two quantities, or unknown ones."""
    found = []
    for text in (unit, convert_to):
        known = find(text)
        if known is None:
            near = nearest_spelling(text)
            raise ConversionError(f'the unit "{text}" is not known', f"did you mean {near}?" if near else _ELSE)
        found.append(known)
    one, other = found
    if one.quantity != other.quantity:
        why = _UNLIKE.get(frozenset({one.quantity, other.quantity}), f"{one.quantity} is not {other.quantity}")
        raise ConversionError(f"{unit} cannot become {convert_to}: {why}", _ELSE)
    return Converted(one.factor / other.factor, (one.offset - other.offset) / other.factor)


_ELSE = "take convert_to out, or write the conversion as scale and offset, or as an expression of a derived point"


def converted(config: PointConfig) -> PointConfig:
    """The point in its new unit, with a scale and offset that lead there; as it is where it asks for none.

    Raises `ConversionError`.
    """
    if config.convert_to is None:
        return config
    if config.unit is None:
        raise ConversionError("convert_to needs the unit of what is read", f"add unit: ... beside {config.convert_to}")
    factor, offset = conversion(config.unit, config.convert_to)
    scale = (1 if config.scale is None else Fraction(Decimal(repr(config.scale)))) * factor
    offset += 0 if config.offset is None else Fraction(Decimal(repr(config.offset))) * factor
    changed = {
        "unit": config.convert_to,
        "scale": None if scale == 1 else float(scale),
        "offset": None if offset == 0 else float(offset),
    }
    return config.model_copy(update=changed)
