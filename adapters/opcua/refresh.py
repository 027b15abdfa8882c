"""After an outage: the values of points that have not changed since.

The gateway has marked every point as Bad when the link was lost. A subscription that lives on sends changes only, so a
point that stands still would read Bad until it moves. Reading it once says that it is well (ResendData would need a
Call, which the gateway never sends). The readings carry the server's time: they are statements of now, and no
repetitions of the last change.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from typing import Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import UaError

from adapters.opcua.batches import BatchBuilder, Built, Moment
from adapters.opcua.decode import Items
from adapters.opcua.pace import Priority
from adapters.opcua.reading import SERVER, Asks, Learner, ValueReader, Wanted
from adapters.opcua.session import Session
from gateway.contract import Sink

_logger = logging.getLogger(__name__)

_UNREADABLE: Final = (UaError, struct.error, ValueError, TypeError, KeyError, AttributeError, IndexError)
"""what asyncua raises at a value that it cannot decode, or not encode again"""


async def read_values(session: Session, nodes: Sequence[tuple[int, ua.NodeId]]) -> list[bytes]:
    """Read the points' nodes; returns bodies of DataChangeNotifications with the points as client handles.

    A value that asyncua cannot read spoils its whole batch, so such batches are halved; what remains is left out.
    Raises AdapterError when the link or the server fails.
    """
    found: list[bytes] = []
    waiting = [nodes[at : at + session.nodes_per_read] for at in range(0, len(nodes), session.nodes_per_read)]
    while waiting:
        chunk = waiting.pop()
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Server
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for _, node in chunk
        ]
        body = await session.raw("reading points that have not changed", request)
        try:
            found.append(_notification(body, [point for point, _ in chunk]))
        except _UNREADABLE as error:
            if len(chunk) > 1:
                half = len(chunk) // 2
                waiting += [chunk[:half], chunk[half:]]
            else:
                _logger.debug("%s: %s cannot be read: %r", session.url, chunk[0][1], error)
    return found


def _notification(body: bytes, points: Sequence[int]) -> bytes:
    answer = struct_from_binary(ua.ReadResponse, Buffer(body))
    answer.ResponseHeader.ServiceResult.check()
    items = [ua.MonitoredItemNotification(point, value) for point, value in zip(points, answer.Results, strict=True)]
    return struct_to_binary(ua.DataChangeNotification(MonitoredItems=items))


async def refresh(
    session: Asks,
    learner: Learner,
    builder: BatchBuilder,
    sink: Sink,
    now: Callable[[], Moment],
    nodes: Sequence[Wanted],
    report: Callable[[Built], None],
) -> None:
    """Read the points' nodes and offer what they say; what cannot be decoded is left out. `report` has what was built.

    Raises AdapterError when the link or the server fails.
    """

    async def take(decoded: list[Items], moment: Moment) -> None:
        builder.created(point for items in decoded for point in items.handles.tolist())
        built = builder.build(decoded, moment)
        if built.batches:
            await sink.offer(built.batches)
        report(built)

    doing = "reading points that have not changed"
    await ValueReader(session, learner, doing=doing, priority=Priority.BACKGROUND, times=SERVER).read(nodes, now, take)
