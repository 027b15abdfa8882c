"""`check --connect`: log in as the gateway would, and read what each point's node is and holds."""

from __future__ import annotations

import contextlib

from adapters.opcua.config import OpcUaDeviceConfig, OpcUaPointConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.profiles import PROFILES
from adapters.opcua.tools import words
from adapters.opcua.tools.describe import describe, look_up, null_node
from adapters.opcua.tools.entry import diagnose
from adapters.opcua.tools.link import Link, SessionCaller
from gateway.contract.tools import Item, Kind
from gateway.contract.trial import Failing, Trial

_BAD = 2
"""the two upper bits of a status code: good, uncertain, bad (Part 4, 7.39)"""


async def try_out(config: OpcUaDeviceConfig) -> Trial:
    """See `gateway.contract.trial.TryOut`."""
    async with contextlib.AsyncExitStack() as stack:
        async with diagnose(config.connection):
            profile = PROFILES[config.profile]
            session = await stack.enter_async_context(open_session(config.connection, config.load, None, profile))
        link = Link(SessionCaller(session), session.url)
        await link.learn()
        nodes = [words.to_node_id(point.node, link.namespaces) for point in config.points]
        found = await look_up(link, [node or null_node() for node in nodes])
        items = await describe(link, found, values=True, cached=False)
    failing = [
        Failing(place, point.node, reason)
        for place, (point, node, item) in enumerate(zip(config.points, nodes, items, strict=True))
        if (reason := _reason(point, item if node is not None else None))
    ]
    return Trial(tuple(failing), link.requests)


def _reason(point: OpcUaPointConfig, item: Item | None) -> str | None:
    """Why a point will have no good values as the device file describes it; None = nothing speaks against it."""
    if item is None:
        return "the server does not know this namespace; browse shows the names of its namespaces"
    if item.kind is Kind.GROUP:
        return f'"{item.name}" is a folder or an object without a value; a point needs a variable'
    if item.status >> 30 == _BAD:
        return item.status_text
    if not item.access.read:
        return "the server does not let this user read it"
    there = item.point.get("type") if item.point else None
    if point.type is not None and there is not None and there != point.type:
        return f"the server has {item.type} (type: {there}), the device file says type: {point.type}"
    return None
