"""Who we say that we are: client id, user name and password, made anew for every connection. Pure.

A password may be signed: an HMAC (RFC 2104) over a text that holds a time, so that what is overheard is soon of no use.
What the platforms want, each from its own documentation, is written in the config (docs/destinations.md):

- Aliyun IoT Platform: help.aliyun.com/document_detail/73742.html
- Huawei Cloud IoTDA: support.huaweicloud.com/intl/en-us/api-iothub/iot_06_v5_3009.html
- Tencent Cloud IoT Hub: www.tencentcloud.com/document/product/1105/41824
- Azure IoT Hub: learn.microsoft.com/azure/iot-hub/authenticate-authorize-sas
"""

from __future__ import annotations

import base64
import hmac
import re
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.publishing.config import DEFAULT_VALID_S, DestinationConfig, HmacConfig


class Login(NamedTuple):
    """Who we say that we are."""

    client_id: str
    user: str | None = None
    password: str | None = None


def make_login(config: DestinationConfig, enterprise: str, gateway: str, host: str, time_ns: int, nonce: str) -> Login:
    """For one connection to the broker `host` at `time_ns` (since the epoch).

    `nonce` is a text used only once; its last 16 letters and digits are what templates get.
    """
    keys = {"enterprise": enterprise, "gateway": gateway, "destination": config.name}
    keys |= _moment(config, time_ns, nonce)
    client_id = default_client_id(enterprise, gateway, config.name)
    if config.client_id is not None:
        client_id = config.client_id.format(**keys)
    if config.user is None:
        return Login(client_id)
    name = config.user.name.format(**keys)
    match config.user.password:
        case None:
            return Login(client_id, name)
        case HmacConfig() as rule:
            return Login(client_id, name, _sign(rule, keys | {"client_id": client_id, "user": name, "host": host}))
        case secret:
            return Login(client_id, name, secret.get_secret_value())


def default_client_id(enterprise: str, gateway: str, destination: str) -> str:
    """At most 64 letters, digits, "-" and "_"; the end is the part that tells gateways apart and is kept."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{enterprise}-{gateway}-{destination}")[-64:]


def _moment(config: DestinationConfig, time_ns: int, nonce: str) -> dict[str, str]:
    """The same moment for client id, user name and password: platforms compare them."""
    seconds = time_ns // 1_000_000_000
    password = None if config.user is None else config.user.password
    valid_s = password.valid if isinstance(password, HmacConfig) else DEFAULT_VALID_S
    return {
        "timestamp_ms": str(time_ns // 1_000_000),
        "timestamp": str(seconds),
        "hour": f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d%H}",
        "expiry": str(seconds + round(valid_s)),
        "nonce": "".join(filter(str.isalnum, nonce))[-16:],
    }


def _sign(rule: HmacConfig, keys: Mapping[str, str]) -> str:
    secret = rule.secret.get_secret_value()
    key = base64.b64decode(secret) if rule.secret_encoding == "base64" else secret.encode()
    if rule.key is not None:
        key = rule.key.format(**keys).encode()
    digest = hmac.digest(key, rule.message.format(secret=secret, **keys).encode(), rule.hmac)
    match rule.encoding:
        case "hex":
            shown = digest.hex()
        case "base64":
            shown = base64.b64encode(digest).decode()
        case "base64-percent":
            shown = urllib.parse.quote(base64.b64encode(digest).decode(), safe="")
    return rule.text.format(hmac=shown, **keys)
