"""After an outage: the values of points that have not changed since.

The gateway has marked every point as Bad when the link was lost. A subscription that lives on sends changes only, so a
point that stands still would read Bad until it moves. Reading it once says that it is well (ResendData would need a
Call, which the gateway never sends). The readings carry the server's time: they are statements of now, and no
repetitions of the last change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.opcua.acquiring.reading import SERVER, Asks, Learner, ValueReader, Wanted
from adapters.opcua.decoding.batches import BatchBuilder, Built, Moment
from adapters.opcua.decoding.decode import Items
from adapters.opcua.session.pace import Priority
from gateway.contract import Sink


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
