"""The answer to a gateway that wants to know what is stored: confirm/1. Pure; written from docs/schemas/ alone."""

from __future__ import annotations

from typing import Any

import orjson

from simulators.centre.store import Taken


def confirmation(taken: Taken) -> bytes | None:
    """For a message that is stored, or will never be; None while there is nothing to say."""
    if taken.later or (taken.offsets is None and taken.refused is None):
        return None
    answer: dict[str, Any] = {"schema": "confirm/1"}
    entry = dict(taken.offsets or {})
    answer |= {key: entry.pop(key) for key in ("enterprise", "gateway") if key in entry}
    if taken.refused is None:
        answer["stored"] = [entry]
    else:
        answer["refused"] = [entry | {"reason": taken.refused}]
    return orjson.dumps(answer)
