"""A server's own structures, learnt from it and read from its notifications."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, Server, ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from adapters.opcua import ADAPTER
from adapters.opcua.decoding.decode import decode_items
from adapters.opcua.decoding.envelope import read_publish
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.model.definitions import learn_structures
from adapters.opcua.session import stack
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Priority
from gateway.contract import Point, SystemClock
from tests.support.broker import free_port
from tests.support.modbus_sink import CollectingSink, cycles, running


@pytest.fixture
async def plant() -> AsyncIterator[tuple[str, list[ua.NodeId]]]:
    """Its url, and the nodes of a recipe and a plain number."""
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    server = Server()
    await server.init()
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("http://structures.test/")
    index = await server.get_namespace_index("http://structures.test/")
    mode = await new_enum(server, index, "TestMode", ["idle", "running"])
    step, _ = await new_struct(
        server,
        index,
        "TestStep",
        [
            new_struct_field("temperature", ua.VariantType.Double),
            new_struct_field("hold", ua.NodeId(ua.Int32(290))),  # Duration
            new_struct_field("mode", mode),
            new_struct_field("comment", ua.VariantType.String, optional=True),
        ],
    )
    recipe, _ = await new_struct(
        server,
        index,
        "TestRecipe",
        [new_struct_field("name", ua.VariantType.String), new_struct_field("steps", step, array=True)],
    )
    classes: Any = await server.load_data_type_definitions()
    of_step, modes = classes["TestStep"], classes["TestMode"]
    steps = [
        of_step(temperature=80.5, hold=1000.0, mode=modes.running),
        of_step(temperature=20.0, hold=0.0, mode=modes.idle, comment="cool"),
    ]
    value = ua.Variant(classes["TestRecipe"](name="soap", steps=steps), ua.VariantType.ExtensionObject)
    add: Any = server.nodes.objects.add_variable
    nodes = [
        await add(ua.NodeId("recipe", index), "recipe", value, datatype=recipe.nodeid),
        await add(ua.NodeId("number", index), "number", 1.5),
    ]
    async with server:
        yield url, [node.nodeid for node in nodes]


class Link:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls = 0
        self.url = "opc.tcp://test"
        self.limits = Limits()

    async def call(self, doing: str, request: Any, response: Any) -> Any:
        self.calls += 1
        return await stack.call(self.client, request, response, 5.0)

    async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
        self.calls += 1
        return stack.body(await stack.send(self.client, request, 5.0))


async def first_notification(link: Link, nodes: list[ua.NodeId]) -> bytes:
    request = ua.CreateSubscriptionRequest()
    wanted = request.Parameters
    wanted.RequestedPublishingInterval, wanted.RequestedLifetimeCount = 50.0, 1000
    wanted.RequestedMaxKeepAliveCount, wanted.PublishingEnabled = 10, True
    subscription = await link.call("", request, ua.CreateSubscriptionResponse)
    items = ua.CreateMonitoredItemsRequest()
    items.Parameters.SubscriptionId = subscription.Parameters.SubscriptionId
    items.Parameters.ItemsToCreate = [
        ua.MonitoredItemCreateRequest(
            ua.ReadValueId(node, ua.AttributeIds.Value),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(ClientHandle=handle, SamplingInterval=50.0, QueueSize=1),
        )
        for handle, node in enumerate(nodes)
    ]
    await link.call("", items, ua.CreateMonitoredItemsResponse)
    return stack.body(await stack.send(link.client, ua.PublishRequest(), 5.0))


def values(data: bytes, structures: Structures) -> dict[int, Any]:
    message = read_publish(data).message
    assert message is not None
    ((start, end),) = message.data_changes
    decode = functools.partial(decode_other, structures=structures)
    return {int(items.handles[0]): items.values[0] for items in decode_items(data, start, end, decode)}


async def test_structures_are_learnt_from_the_server(plant: tuple[str, list[ua.NodeId]]) -> None:
    url, nodes = plant
    async with Client(url) as client:
        link = Link(client)
        structures = Structures()
        await learn_structures(link, nodes, structures)
        assert link.calls <= 6, "rounds, not a call per type"
        data = await first_notification(link, nodes)
        strange = Structures()
        await learn_structures(link, [ua.NodeId("nowhere", 9), ua.NodeId(ua.Int32(85))], strange)
    found = values(data, structures)
    assert found[1] == 1.5
    assert found[0] == {
        "name": "soap",
        "steps": [
            {"temperature": 80.5, "hold": 1000.0, "mode": 1},
            {"temperature": 20.0, "hold": 0.0, "mode": 0, "comment": "cool"},
        ],
    }
    assert set(values(data, Structures())[0]) == {"type", "body"}, "without its definition it is opaque"
    assert values(data, strange) == values(data, Structures()), "what a server does not explain is no error"
    await check_the_adapter(url, nodes)  # here, because asyncua knows the server's types once per process


async def check_the_adapter(url: str, nodes: list[ua.NodeId]) -> None:
    """The adapter looks a structure up when it meets it."""
    content = {
        "device": "d",
        "adapter": "opcua",
        "connection": {"url": url},
        "subscribe": {"publishing": "50ms", "sampling": "50ms"},
        "points": [{"point": f"p{k}", "node": node.to_string()} for k, node in enumerate(nodes)],
    }
    config = ADAPTER.device_model.model_validate(content)
    points = [Point(k, point) for k, point in enumerate(config.points)]
    sink = CollectingSink()
    async with running(ADAPTER.build(config, points, SystemClock()), sink) as task:
        await cycles(sink, 0, 1, task)
    assert sink.last(0).value["name"] == "soap", "the first reading already has its fields"
    assert [step["mode"] for step in sink.last(0).value["steps"]] == [1, 0]
