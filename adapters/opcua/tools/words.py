"""Node ids, types, units and status codes as people and device files write them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncua import ua

from adapters.opcua.config import NodeAddress
from adapters.opcua.decoding.batches import BUILT_IN
from adapters.opcua.session import stack

_KINDS: Final = {
    "i": ua.NodeIdType.Numeric,
    "s": ua.NodeIdType.String,
    "g": ua.NodeIdType.Guid,
    "b": ua.NodeIdType.ByteString,
}
_OURS: Final = {built_in: name for name, built_in in BUILT_IN.items()}
_LAST_BUILT_IN: Final = 25
"""data types i=1 to i=25 of namespace 0 are the built-in types themselves (Part 6, 5.1.2)"""

_UNITS: Final = {
    "CEL": "°C", "KEL": "K", "FAH": "°F", "P1": "%", "MTR": "m", "CMT": "cm", "MMT": "mm", "4H": "µm", "KTM": "km",
    "MTK": "m²", "MTQ": "m³", "LTR": "L", "MLT": "mL", "SEC": "s", "MIN": "min", "HUR": "h", "C26": "ms", "HTZ": "Hz",
    "KHZ": "kHz", "MTS": "m/s", "MTM": "m/min", "RPM": "r/min", "KGM": "kg", "GRM": "g", "TNE": "t", "E93": "kg/h",
    "4K": "mA", "AMP": "A", "2Z": "mV", "VLT": "V", "KVT": "kV", "WTT": "W", "KWT": "kW", "MAW": "MW", "KWH": "kWh",
    "WHR": "Wh", "D46": "VA", "KVA": "kVA", "KVR": "kvar", "OHM": "Ω", "PAL": "Pa", "KPA": "kPa", "MPA": "MPa",
    "BAR": "bar", "MBR": "mbar", "NEW": "N", "NU": "N·m", "JOU": "J", "KJO": "kJ", "MQH": "m³/h", "MQS": "m³/s",
    "L2": "L/min", "E32": "L/h", "DD": "°", "C81": "rad", "Q30": "pH", "59": "ppm", "KMQ": "kg/m³",
}  # fmt: skip
"""UNECE Recommendation 20 codes that plants use, for servers that give the number of a unit without its name"""


def to_node_id(text: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """The node id of a device file's text; None where the server has no such namespace. Raises ValueError."""
    address = NodeAddress(text)
    namespace = address.namespace
    if address.uri is not None:
        if address.uri not in namespaces:
            return None
        namespace = namespaces.index(address.uri)
    return stack.node_id(address.identifier, namespace, _KINDS[address.kind])


def short_text(node: ua.NodeId) -> str:
    """A node id by its namespace index (Part 6, 5.3.1.10)."""
    return (f"ns={node.NamespaceIndex};" if node.NamespaceIndex else "") + _identifier(node)


def lasting_text(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """A node id by its namespace's URI, which stays right when a server renumbers its namespaces.

    By index where the URI is unknown or holds a ";", which would end it too early.
    """
    index: int = node.NamespaceIndex
    uri = namespaces[index] if 0 < index < len(namespaces) else ""
    return short_text(node) if not uri or ";" in uri else f"nsu={uri};{_identifier(node)}"


def _identifier(node: ua.NodeId) -> str:
    identifier: Any = node.Identifier
    if isinstance(identifier, bytes):
        return f"b={base64.b64encode(identifier).decode()}"
    if isinstance(identifier, int):
        return f"i={identifier}"
    return f"s={text(identifier)}" if isinstance(identifier, str) else f"g={identifier}"


def text(value: Any) -> str:
    """A server's text fit for a terminal: wrong UTF-8 shown as bytes, control characters as spaces."""
    whole = str(value or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else " " for each in whole).strip()


def built_in_of(data_type: str | None) -> int | None:
    """The built-in type that a DataType attribute names; None for derived and abstract types."""
    if data_type is None or not data_type.startswith("i="):
        return None
    number = int(data_type[2:])
    return number if 0 < number <= _LAST_BUILT_IN else None


def type_name(data_type: str | None, names: Mapping[str, str], rank: int | None, value_type: int, array: bool) -> str:
    """The type's name; `names` are those of derived types by node id. The value tells where there is no DataType."""
    built_in = built_in_of(data_type)
    name = names.get(data_type or "") or ua.VariantType(built_in or value_type).name
    if name == "Null":
        name = "unknown"
    if name == "Variant":
        name = f"any, now {ua.VariantType(value_type).name}" if value_type else "any"
    return name + ("[]" if array or (rank is not None and rank >= 0) else "")


def our_type(data_type: str | None, rank: int | None, value_type: int, array: bool) -> str | None:
    """The `type` of a point in a device file; None where ours has no such type, and for arrays."""
    if array or (rank is not None and rank >= 0):
        return None
    return _OURS.get(value_type or built_in_of(data_type) or 0)


def unit_text(information: Any) -> str | None:
    """The unit's symbol out of EUInformation (Part 8, 5.6.4.3), as the server writes it, else by its UNECE code."""
    if not isinstance(information, dict):
        return None
    if name := text(information.get("DisplayName")):
        return name
    number = information.get("UnitId")
    if not isinstance(number, int) or number <= 0:
        return None
    # The code's letters are the bytes of the number (Part 8, 5.6.4.3).
    code = number.to_bytes(4, "big").lstrip(b"\0").decode("latin-1")
    return _UNITS.get(code)


def status_text(code: int) -> str:
    """A status code's name, and for anything but Good what it means (Part 4, 7.39)."""
    status = ua.StatusCode(ua.UInt32(code))
    return status.name if status.name == "Good" else f"{status.name}: {status.doc.rstrip('.')}"
