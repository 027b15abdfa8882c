"""Talking to the running gateway: a Unix socket in the log's folder, requests and answers as lines of JSON.

`protocol` says what a line holds, `server` answers in the gateway, `client` asks from a command. What is answered is
the runtime's: nothing here knows a device or a destination.
"""

from gateway.control.client import Client, NotRunningError, RequestRefusedError, ask
from gateway.control.protocol import SOCKET_NAME, VERSION
from gateway.control.server import Call, ControlServer, DeniedError

__all__ = [
    "SOCKET_NAME",
    "VERSION",
    "Call",
    "Client",
    "ControlServer",
    "DeniedError",
    "NotRunningError",
    "RequestRefusedError",
    "ask",
]
