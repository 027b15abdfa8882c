"""The tree of errors; every class says whether trying the same again can help.

GatewayError
 ├── ConfigError      retry no   the config or the arguments are wrong (exit code 2)
 └── AdapterError     retry yes  a device's link failed; the supervisor backs off and runs the adapter again
      ├── LinkLost    retry yes  refused, timed out or cut connection
      └── Refused     retry yes  the device answers but will not serve us: login, certificate, licence, session limit

A bad value, a bad status or a missing node is quality, not an exception.
"""

from __future__ import annotations

from gateway.contract.status import BAD_NO_COMMUNICATION, BAD_USER_ACCESS_DENIED


class GatewayError(Exception):
    """Root of everything the gateway raises on purpose. The message says what happened, where, and what to do."""

    retry = False


class ConfigError(GatewayError):
    """The config or the arguments are wrong; nothing has been started."""


class AdapterError(GatewayError):
    """A device's acquisition failed as a whole."""

    retry = True
    status = BAD_NO_COMMUNICATION
    """what each point of the device reads while the failure lasts"""
    state = "down"
    """the device state that metrics and `status` show"""


class LinkLost(AdapterError):
    """The connection could not be made, or was lost."""


class Refused(AdapterError):
    """The device answers but will not serve us until somebody changes something."""

    status = BAD_USER_ACCESS_DENIED
    state = "refused"
