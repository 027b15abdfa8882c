"""An OPC UA server that emits pre-encoded notifications: faster than what it is to load.

    python -m benchmarks.load.opcua_server --items 10000 --rate 10 --type double --port 4840

Binary transport, anonymous, without security; with `--certificate`, `--key` and `--trust` also Basic256Sha256 /
SignAndEncrypt, and then nothing without it but the question for endpoints. Items are `i=0 ... i=N-1` in namespace 1;
every subscribed item changes at `--rate` Hz (with `--type plant` a fifth of them, in random order). What a client does
not fetch in time is queued within bounds, and what had to be thrown away is counted. Commands on standard input:
`rate HZ`, `stats`.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import uvloop
from asyncua import ua as asyncua_types

from benchmarks.load import opcua_nodes, opcua_security
from benchmarks.load.kinds import KINDS, PATTERNS, SPAN
from benchmarks.load.notifications import SERVER, SOURCE, VALUE, filetime
from benchmarks.load.opcua_nodes import BAD_NODE_ID_UNKNOWN, NAMESPACES
from benchmarks.load.opcua_security import Identity, SecurityError
from benchmarks.load.opcua_subscription import GOOD, Load, Subscription
from benchmarks.load.opcua_wire import POLICY, ProtocolError, Request, Wire, decode, encode
from benchmarks.rig import control

BAD_SERVICE_UNSUPPORTED: Final = 0x800B0000
BAD_SECURITY_CHECKS_FAILED: Final = 0x80130000
BAD_SUBSCRIPTION_ID_INVALID: Final = 0x80280000
BAD_MESSAGE_NOT_AVAILABLE: Final = 0x807B0000
PUBLISH_REQUEST: Final = 826
GET_ENDPOINTS_REQUEST: Final = 428
SHORTEST_PUBLISHING_S: Final = 0.005
_MASKS: Final = {0: VALUE | SOURCE, 1: VALUE | SERVER, 2: VALUE | SOURCE | SERVER, 3: VALUE}
"""by TimestampsToReturn"""
ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""


class Connection(asyncio.Protocol):
    """One client: a channel, a session, the PublishRequests that wait for something to say."""

    def __init__(self, load: Load, identity: Identity | None) -> None:
        self._load = load
        self._identity = identity
        self._wire = Wire(identity)
        self._nonce = bytes(opcua_security.NONCE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._own: dict[int, Subscription] = {}
        self.publish_requests: deque[tuple[int, int, bytes]] = deque()
        self._services: dict[int, tuple[Any, Callable[[Any], Any]]] = {
            GET_ENDPOINTS_REQUEST: (ua.GetEndpointsRequest, self._get_endpoints),
            461: (ua.CreateSessionRequest, self._create_session),
            467: (ua.ActivateSessionRequest, self._activate_session),
            473: (ua.CloseSessionRequest, self._close_session),
            527: (ua.BrowseRequest, self._browse),
            631: (ua.ReadRequest, self._read),
            751: (ua.CreateMonitoredItemsRequest, self._create_items),
            781: (ua.DeleteMonitoredItemsRequest, self._delete_items),
            787: (ua.CreateSubscriptionRequest, self._create_subscription),
            793: (ua.ModifySubscriptionRequest, self._modify_subscription),
            799: (ua.SetPublishingModeRequest, self._set_publishing_mode),
            832: (ua.RepublishRequest, self._republish),
            847: (ua.DeleteSubscriptionsRequest, self._delete_subscriptions),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not derived from it

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._drop(list(self._own))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            requests = self._wire.feed(data)
        except ProtocolError:
            self._abort()
            return
        if self._wire.outgoing:
            self._write(self._wire.outgoing)
            self._wire.outgoing = []
        for request in requests:
            if self._identity is not None and not self._wire.secured and request.type != GET_ENDPOINTS_REQUEST:
                self._abort()
            elif request.type == PUBLISH_REQUEST:
                self._on_publish(request)
            else:
                self._write(self._wire.answer(request.id, self._serve(request)))
        if self._wire.closed:
            self._abort()

    def publish(
        self, subscription: int, sequence: int, more: bool, notifications: bytes, available: Mapping[int, None]
    ) -> None:
        """Answer the oldest PublishRequest (Part 4, 5.14.5); see `opcua_subscription.Publisher`."""
        request, handle, results = self.publish_requests.popleft()
        now = filetime(time.time_ns())
        body = b"".join(
            (
                b"\x01\x00\x3d\x03",  # PublishResponse, i=829
                struct.pack("<qIIBiBBB", now, handle, GOOD, 0, -1, 0, 0, 0),
                struct.pack("<Ii", subscription, len(available)),
                struct.pack(f"<{len(available)}I", *available),
                struct.pack("<?Iq", more, sequence, now),
                notifications,
                results,
                b"\xff\xff\xff\xff",
            )
        )
        self._write(self._wire.answer(request, body))

    def _write(self, chunks: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(chunks))

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _on_publish(self, request: Request) -> None:
        """Queue a PublishRequest, decoded by hand: it comes with every notification."""
        body = request.body
        offset = 4
        offset += {0: 2, 1: 4, 2: 7}[body[offset]]  # our own numeric authentication token
        _, handle, _, audit = struct.unpack_from("<qIIi", body, offset)
        offset += 20 + max(audit, 0) + 4 + 3  # timeout hint, empty additional header
        (count,) = struct.unpack_from("<i", body, offset)
        pairs = struct.unpack_from(f"<{2 * max(count, 0)}I", body, offset + 4)
        results = [
            self._own[id].acknowledge(sequence) if id in self._own else BAD_SUBSCRIPTION_ID_INVALID
            for id, sequence in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        encoded = struct.pack(f"<i{len(results)}I", len(results) or -1, *results)
        self.publish_requests.append((request.id, handle, encoded))
        for subscription in self._own.values():
            subscription.flush_late()

    def _serve(self, request: Request) -> bytes:
        type, service = self._services.get(request.type, (None, None))
        if type is None or service is None:
            header = decode(ua.RequestHeader, request.body[4:])
            return _fault(BAD_SERVICE_UNSUPPORTED, header.RequestHandle)
        decoded = decode(type, request.body)
        handle = decoded.RequestHeader.RequestHandle
        response = service(decoded)
        return _fault(response, handle) if isinstance(response, int) else encode(response, handle)

    def _endpoints(self) -> list[ua.EndpointDescription]:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        endpoint = ua.EndpointDescription()
        endpoint.EndpointUrl = f"opc.tcp://{host}:{port}"
        endpoint.Server.ApplicationUri = NAMESPACES[1]
        endpoint.SecurityMode = ua.MessageSecurityMode.None_
        endpoint.SecurityPolicyUri = POLICY
        if self._identity is not None:
            endpoint.SecurityMode = ua.MessageSecurityMode.SignAndEncrypt
            endpoint.SecurityPolicyUri = opcua_security.POLICY
            endpoint.ServerCertificate = self._identity.certificate
        endpoint.TransportProfileUri = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
        anonymous = ua.UserTokenPolicy()
        anonymous.PolicyId = "anonymous"
        anonymous.TokenType = ua.UserTokenType.Anonymous
        endpoint.UserIdentityTokens = [anonymous]
        return [endpoint]

    def _get_endpoints(self, _: Any) -> Any:
        response = ua.GetEndpointsResponse()
        response.Endpoints = self._endpoints()
        return response

    def _create_session(self, request: Any) -> Any:
        response = ua.CreateSessionResponse()
        result = response.Parameters
        result.SessionId = ua.NodeId(1, 1)
        result.AuthenticationToken = ua.NodeId(2, 1)
        result.RevisedSessionTimeout = request.Parameters.RequestedSessionTimeout
        result.ServerNonce = self._nonce = opcua_security.new_nonce()
        result.ServerEndpoints = self._endpoints()
        if self._identity is not None:
            result.ServerCertificate = self._identity.certificate
            result.ServerSignature.Algorithm = opcua_security.SIGNATURE
            nonce = request.Parameters.ClientNonce
            result.ServerSignature.Signature = self._identity.sign(self._identity.trusted + nonce)
        return response

    def _activate_session(self, request: Any) -> Any:
        if self._identity is not None:
            try:
                signature = request.Parameters.ClientSignature.Signature
                self._identity.verify(self._identity.certificate + self._nonce, signature)
            except SecurityError:
                return BAD_SECURITY_CHECKS_FAILED
        response = ua.ActivateSessionResponse()
        response.Parameters.ServerNonce = self._nonce = opcua_security.new_nonce()
        return response

    def _close_session(self, _: Any) -> Any:
        self._drop(list(self._own))
        return ua.CloseSessionResponse()

    def _read(self, request: Any) -> Any:
        response = ua.ReadResponse()
        items, type = self._load.items, self._load.type
        response.Results = [
            opcua_nodes.attribute(read.NodeId, read.AttributeId, items, type) for read in request.Parameters.NodesToRead
        ]
        return response

    def _browse(self, request: Any) -> Any:
        response = ua.BrowseResponse()
        wanted = request.Parameters.NodesToBrowse
        response.Results = [opcua_nodes.browse(description, self._load.items) for description in wanted]
        return response

    def _create_subscription(self, request: Any) -> Any:
        wanted = request.Parameters
        id = next(self._load.ids)
        publishing_s = max(wanted.RequestedPublishingInterval / 1000, SHORTEST_PUBLISHING_S)
        keep_alive = max(wanted.RequestedMaxKeepAliveCount, 1)
        subscription = Subscription(id, publishing_s, keep_alive, wanted.MaxNotificationsPerPublish, self._load, self)
        subscription.enabled = wanted.PublishingEnabled
        self._own[id] = self._load.subscriptions[id] = subscription
        response = ua.CreateSubscriptionResponse()
        result = response.Parameters
        result.SubscriptionId = id
        result.RevisedPublishingInterval = publishing_s * 1000
        result.RevisedLifetimeCount = wanted.RequestedLifetimeCount
        result.RevisedMaxKeepAliveCount = keep_alive
        return response

    def _modify_subscription(self, request: Any) -> Any:
        wanted = request.Parameters
        subscription = self._own.get(wanted.SubscriptionId)
        if subscription is None:
            return BAD_SUBSCRIPTION_ID_INVALID
        subscription.publishing_s = max(wanted.RequestedPublishingInterval / 1000, SHORTEST_PUBLISHING_S)
        response = ua.ModifySubscriptionResponse()
        response.Parameters.RevisedPublishingInterval = subscription.publishing_s * 1000
        response.Parameters.RevisedLifetimeCount = wanted.RequestedLifetimeCount
        response.Parameters.RevisedMaxKeepAliveCount = wanted.RequestedMaxKeepAliveCount
        return response

    def _set_publishing_mode(self, request: Any) -> Any:
        wanted = request.Parameters
        response = ua.SetPublishingModeResponse()
        response.Parameters.Results = [self._enable(id, wanted.PublishingEnabled) for id in wanted.SubscriptionIds]
        return response

    def _enable(self, id: int, enabled: bool) -> ua.StatusCode:
        if id not in self._own:
            return ua.StatusCode(BAD_SUBSCRIPTION_ID_INVALID)
        self._own[id].enabled = enabled
        return ua.StatusCode(GOOD)

    def _create_items(self, request: Any) -> Any:
        wanted = request.Parameters
        subscription = self._own.get(wanted.SubscriptionId)
        if subscription is None:
            return BAD_SUBSCRIPTION_ID_INVALID
        results, new = [], []
        for item in wanted.ItemsToCreate:
            result = ua.MonitoredItemCreateResult()
            node = item.ItemToMonitor.NodeId
            if opcua_nodes.exists(node, self._load.items):
                result.MonitoredItemId = next(self._load.ids)
                result.RevisedSamplingInterval = item.RequestedParameters.SamplingInterval
                result.RevisedQueueSize = item.RequestedParameters.QueueSize
                new.append((result.MonitoredItemId, item.RequestedParameters.ClientHandle, node.Identifier))
            else:
                result.StatusCode = ua.StatusCode(BAD_NODE_ID_UNKNOWN)
            results.append(result)
        if new:
            subscription.add(new, _MASKS[int(wanted.TimestampsToReturn)])
        response = ua.CreateMonitoredItemsResponse()
        response.Results = results
        return response

    def _delete_items(self, request: Any) -> Any:
        wanted = request.Parameters
        subscription = self._own.get(wanted.SubscriptionId)
        if subscription is None:
            return BAD_SUBSCRIPTION_ID_INVALID
        response = ua.DeleteMonitoredItemsResponse()
        response.Results = [ua.StatusCode(code) for code in subscription.remove(wanted.MonitoredItemIds)]
        return response

    def _republish(self, request: Any) -> int:
        known = request.Parameters.SubscriptionId in self._own
        return BAD_MESSAGE_NOT_AVAILABLE if known else BAD_SUBSCRIPTION_ID_INVALID

    def _delete_subscriptions(self, request: Any) -> Any:
        ids = request.Parameters.SubscriptionIds
        response = ua.DeleteSubscriptionsResponse()
        response.Results = [ua.StatusCode(GOOD if id in self._own else BAD_SUBSCRIPTION_ID_INVALID) for id in ids]
        self._drop(ids)
        return response

    def _drop(self, ids: list[int]) -> None:
        for id in ids:
            if (subscription := self._own.pop(id, None)) is not None:
                subscription.close()
                del self._load.subscriptions[id]


def _fault(code: int, handle: int) -> bytes:
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(code)
    return encode(fault, handle)


async def run(arguments: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    load = Load(arguments.items, arguments.rate, arguments.type, arguments.most)
    identity = None
    if arguments.certificate is not None:
        identity = Identity.load(arguments.certificate, arguments.key, arguments.trust)
    server = await loop.create_server(lambda: Connection(load, identity), arguments.host, arguments.port)
    control.say({"port": server.sockets[0].getsockname()[1]})
    await control.serve({"rate": load.set_rate, "stats": load.snapshot}, arguments.seconds)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.0, help="Hz")
    parser.add_argument("--type", choices=[*KINDS, *PATTERNS], default="double")
    parser.add_argument("--most", type=int, default=10_000, help="items per notification")
    parser.add_argument("--certificate", type=Path, help="DER; with it only a secured channel is served")
    parser.add_argument("--key", type=Path, help="of the certificate, PEM")
    parser.add_argument("--trust", type=Path, help="the client's certificate, DER")
    parser.add_argument("--seconds", type=float, default=None, help="end after so long; else with standard input")
    arguments = parser.parse_args()
    if not 0 < arguments.items <= SPAN:
        parser.error(f"--items must be 1 to {SPAN}")
    if len({path is None for path in (arguments.certificate, arguments.key, arguments.trust)}) > 1:
        parser.error("--certificate, --key and --trust belong together")
    uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
