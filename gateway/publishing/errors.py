"""What can go wrong with a broker; both are retried with back-off, `state` says what an operator sees meanwhile.

GatewayError
 └── BrokerError        retry yes  not connected, or no longer
      ├── BrokerAbsent  retry yes  its machine says that nothing listens there
      └── BrokerRefused retry yes  the broker answers but will not take our messages until somebody changes something
"""

from __future__ import annotations

from gateway.contract import GatewayError


class BrokerError(GatewayError):
    """The connection could not be made, or was lost."""

    retry = True
    state = "down"


class BrokerAbsent(BrokerError):
    """Nothing listens: trying again costs the machine one packet, and the broker nothing."""


class BrokerRefused(BrokerError):
    """Login, rights, quota, certificate: trying again helps only after a change."""

    state = "refused"
