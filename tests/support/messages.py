"""Messages made by hand after docs/schemas/, for tests of receivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ENTERPRISE = "91370200MA3C00000K"
GATEWAY = "qd-chem-01"
STREAM = "01JEXAMPLESTREAM"
TOPIC = f"iiot/v1/{ENTERPRISE}/{GATEWAY}"
TIME = "2026-11-20T08:00:00Z"


def head(schema: str, **more: Any) -> dict[str, Any]:
    """The keys that every message begins with."""
    return {"schema": schema, "enterprise": ENTERPRISE, "gateway": GATEWAY, **more}


def readings(
    n: int, values: Sequence[Any], *, device: str = "boiler-1", stream: str = STREAM, lane: str = "live", **more: Any
) -> dict[str, Any]:
    """A readings/1 message of one point, `level`, a second apart."""
    rows = [
        {
            "p": "level",
            "id": "88.118.8/boiler-1.level",
            "t": f"2026-11-20T08:00:{(n + k) % 60:02d}.5Z",
            "v": v,
            "q": "good",
        }
        for k, v in enumerate(values)
    ]
    top = {"stream": stream, "device": device, "n": n, "count": len(rows), "lane": lane, "catalogue": 0}
    return head("readings/1", **top, readings=rows) | more


def columns(n: int, values: Sequence[Any], *, device: str = "boiler-1", stream: str = STREAM, **more: Any) -> Any:
    """A columns/1 message of the point with index 0, the same readings as `readings` for n + len(values) <= 60."""
    top = {"stream": stream, "device": device, "n": n, "count": len(values), "lane": "live", "catalogue": 0}
    return (
        head(
            "columns/1",
            **top,
            points=[0] * len(values),
            t0=f"2026-11-20T08:00:{n % 60:02d}.5Z",
            dt=[k * 10**9 for k in range(len(values))],
            v=list(values),
        )
        | more
    )


def catalogue(points: Sequence[str] = ("level",), *, device: str = "boiler-1", version: int = 0, **more: Any) -> Any:
    """A catalogue/1 message in one part."""
    entries = [
        {
            "index": index,
            "p": p,
            "id": f"88.118.8/{device}.{p}",
            "name": None,
            "tag": None,
            "unit": "m",
            "type": "float64",
            "stream": STREAM,
            "domain": "production",
            "grade": 1,
            "class": "general",
            "valid_from": TIME,
        }
        for index, p in enumerate(points)
    ]
    top = {"device": device, "name": None, "adapter": "modbus", "version": version, "part": 0, "parts": 1}
    return head("catalogue/1", **top, time=TIME, points=entries) | more


def entry(device: str = "boiler-1", *, stream: str = STREAM, first_n: int = 0, **counts: Any) -> dict[str, Any]:
    """One entry of an account; what is not given follows from `accepted` with everything delivered."""
    accepted = counts.pop("accepted", 0)
    rest = {"withheld": 0, "parked": 0, "waiting": 0, "dropped": {}} | counts
    usual = {
        "device": device,
        "stream": stream,
        "first_n": first_n,
        "last_n": first_n + accepted - 1 if accepted else None,
        "first_time": TIME,
        "last_time": TIME,
        "accepted": accepted,
        "delivered": accepted,
        "complete_n": first_n + accepted,
    }
    return usual | rest


def account(*entries: dict[str, Any], number: int = 1, time: str = TIME) -> dict[str, Any]:
    """An account/1 message."""
    top = {
        "destination": "provincial-centre",
        "number": number,
        "time": time,
        "period": "hour",
        "from": TIME,
        "to": TIME,
    }
    return head("account/1", **top, complete_until=TIME, entries=list(entries))


def stream_closed(n: int, last: dict[str, int], *, closed: str = STREAM, stream: str = "01JNEXT") -> dict[str, Any]:
    """A stream/1 event."""
    labels = {"domain": "production", "grade": 1, "class": "general"}
    top = {"stream": stream, "device": "_events", "n": n, "time": TIME, "closed": closed, "labels": labels}
    return head("stream/1", **top, last=last, reason="recovered", successor=stream)
