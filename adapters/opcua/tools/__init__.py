"""`edge-gateway browse` and `read` for OPC UA: Browse, BrowseNext and Read, in batches and paced; nothing else.

`link`: batched calls; `walk`: the hierarchy; `describe`: attributes; `readings` and `words`: pure decoding and wording;
`entry`: endpoints, and what answers where no OPC UA server does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from adapters.opcua.config import LoadConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.session.pace import Pace
from adapters.opcua.tools import words
from adapters.opcua.tools.describe import describe, look_up, null_node
from adapters.opcua.tools.entry import connection_config, diagnose, server_endpoints
from adapters.opcua.tools.link import Link, SessionCaller
from adapters.opcua.tools.walk import Found, PathFilter, child_of, tree_order, walk
from gateway.contract import ConfigError
from gateway.contract.status import BAD_NODE_ID_UNKNOWN
from gateway.contract.tools import Browsed, BrowseQuery, Endpoint, Item, Kind, Progress, Target

_OBJECTS = "i=85"


class OpcUaTools:
    """See `gateway.contract.tools.Tools`."""

    async def endpoints(self, target: Target) -> tuple[Endpoint, ...]:
        """The endpoints, by GetEndpoints on a channel without security (Part 4, 5.5.4)."""
        config = connection_config(replace(target, security="None", user=None, password=None))
        async with diagnose(config):
            return await server_endpoints(config, Pace(target.requests_per_s))

    async def browse(self, target: Target, query: BrowseQuery, progress: Progress | None = None) -> Browsed:
        """The hierarchy below the root; Objects without the Server object unless asked for."""
        root_text = query.root or _OBJECTS
        _check_node(root_text)
        async with _linked(target) as link:
            node = words.to_node_id(root_text, link.namespaces)
            (root,) = await look_up(link, [node or null_node()])
            if not root.name:
                raise ConfigError(
                    f"{target.url}: there is no node {root_text} on this server; see what there is with browse"
                )
            found = await walk(
                link,
                root,
                PathFilter(query.path),
                query.depth,
                everything=query.everything,
                limit=query.limit,
                progress=progress,
            )
            items = await describe(link, found.nodes, values=query.values, cached=True)
            kept = _kept(found.nodes, items, query)
            order = [items[place] for place in tree_order(found.nodes) if place in kept]
            shown = tuple(item for item in order if item is not None)
            return Browsed(shown, link.device, _legend(shown, link), tuple(found.problems), link.requests)

    async def read(self, target: Target, addresses: Sequence[str]) -> tuple[Item, ...]:
        """Each node's value with what describes it; a fresh one, not what the server has kept."""
        for each in addresses:
            _check_node(each)
        async with _linked(target) as link:
            nodes = [words.to_node_id(each, link.namespaces) for each in addresses]
            found = await look_up(link, [node or null_node() for node in nodes])
            properties = await _properties(link, found)
            items = await describe(link, [*found, *properties], values=True, cached=False)
            return tuple(
                item if node is not None else _unknown(address)
                for item, node, address in zip(items, nodes, addresses, strict=False)
                if item is not None
            )

    def connection(self, target: Target, password: str | None) -> dict[str, Any]:
        """See `Tools.connection`."""
        config = connection_config(target)
        connection: dict[str, Any] = {"url": config.url, "security": config.security}
        if target.pki is not None:
            connection["pki"] = target.pki
        if target.user is not None:
            connection["user"] = {"name": target.user, "password": password}
            if target.allow_insecure_password:
                connection["allow_insecure_password"] = True
        return connection


@asynccontextmanager
async def _linked(target: Target) -> AsyncIterator[Link]:
    config = connection_config(target)
    load = LoadConfig(requests_per_s=target.requests_per_s)
    async with contextlib.AsyncExitStack() as stack:
        async with diagnose(config):
            session = await stack.enter_async_context(open_session(config, load))
        link = Link(SessionCaller(session), config.url)
        await link.learn()
        yield link


def _check_node(text: str) -> None:
    try:
        words.to_node_id(text, ())
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _kept(nodes: Sequence[Found], items: Sequence[Item | None], query: BrowseQuery) -> set[int]:
    """Places that the query asks for, and the groups that lead there; the root in any case."""
    paths = PathFilter(query.path)
    types = {each.casefold() for each in query.types}
    kept = {0}
    for place, (node, item) in enumerate(zip(nodes, items, strict=True)):
        if item is None or not paths.takes(node.path):
            continue
        if types and (item.kind is not Kind.VALUE or not types & _types_of(item)):
            continue
        above = place
        while above not in kept:
            kept.add(above)
            above = nodes[above].parent
    return kept


def _types_of(item: Item) -> set[str]:
    ours = item.point.get("type") if item.point else None
    return {each.casefold() for each in (item.type, ours) if each}


def _legend(items: Sequence[Item], link: Link) -> dict[str, str]:
    used = {item.short.split(";")[0] for item in items if item.short.startswith("ns=")}
    return {f"ns={i}": uri for i, uri in enumerate(link.namespaces) if f"ns={i}" in used}


async def _properties(link: Link, found: Sequence[Found]) -> list[Found]:
    """The properties of variables, for their units and ranges."""
    variables = [place for place, node in enumerate(found) if node.kind is Kind.VALUE and node.name]
    answers = await link.browse([found[place].node for place in variables], len(variables) * 100)
    properties = []
    for place, answer in zip(variables, answers, strict=True):
        for reference in answer.references:
            child = child_of(reference, place)
            if child is not None and child.kind is Kind.PROPERTY:
                properties.append(child)
    return properties


def _unknown(address: str) -> Item:
    status = BAD_NODE_ID_UNKNOWN
    return Item(
        address, address, "", "", (), Kind.VALUE, status=status,
        status_text="BadNodeIdUnknown: the server does not know this namespace",
    )  # fmt: skip
