"""Wires that several devices share, whatever they speak: serial ports, serial servers, dial-in modems.

`turns`: who may use a wire next. `line`: one exchange at a time over bytes without message boundaries. `ports`: how a
wire is opened. `shared`: one wire for all devices that name the same one. Knows no protocol: an adapter brings its own
recognition of replies.
"""

from __future__ import annotations

from adapters.lines.line import CannotConnect, Disconnected, Exchange, Line, LineFault, NoReply, Stale
from adapters.lines.ports import Opener, Port, PortProtocol
from adapters.lines.shared import Shared
from adapters.lines.turns import Turns

__all__ = [
    "CannotConnect",
    "Disconnected",
    "Exchange",
    "Line",
    "LineFault",
    "NoReply",
    "Opener",
    "Port",
    "PortProtocol",
    "Shared",
    "Stale",
    "Turns",
]
