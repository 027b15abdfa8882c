r"""Lines of the control socket: one JSON object each, ended by \n. No I/O but finding a socket's address.

    request  {"v": 1, "do": "status", ...}            what else a request needs stands beside `do`
    answer   {"v": 1, "ok": true, "result": ...}      the last line to a request
             {"v": 1, "ok": false, "error": "..."}    refused: a sentence for people
    between  {"v": 1, "more": ...}                    any number of them before the answer, where a request streams

A version that is not ours is refused with ours, so that a newer command says what to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

VERSION: Final = 1
SOCKET_NAME: Final = "control.sock"
REQUEST_BYTES: Final = 65_536
"""most that a request may take"""
_SUN_PATH: Final = 107
"""bytes of a path that an address holds beside its terminating null byte (unix(7))"""


class BadRequestError(ValueError):
    """A line that is no request of this version; the text says why."""


def line(body: dict[str, Any]) -> bytes:
    """One line; `body` without the version."""
    return orjson.dumps({"v": VERSION, **body}, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def request_of(text: bytes) -> dict[str, Any]:
    """What a line asks for: `do` is in it and is text. Raises BadRequestError."""
    try:
        request = orjson.loads(text)
    except ValueError as error:
        raise BadRequestError(f"a request is one line of JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise BadRequestError('a request is an object such as {"v": 1, "do": "status"}')
    if request.get("v") != VERSION:
        raise BadRequestError(
            f"this gateway speaks version {VERSION} of the control socket, the request is of {request.get('v')!r}; "
            "use the `edge-gateway` that belongs to the gateway"
        )
    return request


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect to for a socket at `path`, valid within the context; a path of any length will do."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
