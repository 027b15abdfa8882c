"""A command's end of the control socket; blocks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from gateway.contract.errors import GatewayError
from gateway.control import protocol

ANSWER_S: Final = 30.0
"""a gateway that lives answers sooner; a config of thousands of points takes seconds to check"""


class NotRunningError(GatewayError):
    """Nobody answers at this log's socket."""


class RequestRefusedError(GatewayError):
    """The gateway does not do it; the text is its own."""


class Client:
    """A connection to the gateway that writes the log in `folder`; a context manager."""

    def __init__(self, folder: Path, answer_s: float | None = ANSWER_S) -> None:
        """`answer_s`: how long to wait for each line; None = for ever."""
        self._path = folder / protocol.SOCKET_NAME
        self._answer_s = answer_s
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        connection = self._closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.settimeout(self._answer_s)
        try:
            with protocol.address(self._path) as address:
                connection.connect(address)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            self._closing.close()
            raise NotRunningError(
                f"no gateway runs on the log {self._path.parent}. Start it with `edge-gateway run`, or see why it "
                "ended: `systemctl status edge-gateway`, `journalctl -u edge-gateway -n 50`"
            ) from error
        except PermissionError as error:
            self._closing.close()
            raise NotRunningError(
                f"{self._path}: only the gateway's own user and root may ask it; use sudo -u with that user"
            ) from error
        except OSError as error:
            self._closing.close()
            raise NotRunningError(f"{self._path}: cannot connect: {error.strerror or error}") from error
        self._connection = connection
        self._lines = self._closing.enter_context(connection.makefile("rb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def ask(self, do: str, **rest: Any) -> Any:
        """One request, its result. Raises RequestRefusedError, NotRunningError when the gateway ends meanwhile."""
        for _ in self.stream(do, **rest):
            pass
        return self.result

    def stream(self, do: str, **rest: Any) -> Iterator[Any]:
        """What comes before the answer, which is then `result`. Raises as `ask`."""
        try:
            self._connection.sendall(protocol.line({"do": do, **rest}))
            while True:
                text = self._lines.readline()
                if not text.endswith(b"\n"):
                    raise NotRunningError("the gateway has ended the connection: was it stopped?")
                said = orjson.loads(text)
                if "more" not in said:
                    break
                yield said["more"]
        except TimeoutError:
            raise NotRunningError(
                f"the gateway does not answer within {self._answer_s:g} s; see its log: journalctl -u edge-gateway"
            ) from None
        except ConnectionError as error:
            raise NotRunningError(f"the gateway has ended the connection ({error.strerror}): was it stopped?") from None
        if not said.get("ok"):
            raise RequestRefusedError(str(said.get("error")))
        self.result = said.get("result")


def ask(folder: Path, do: str, answer_s: float = ANSWER_S, **rest: Any) -> Any:
    """One request to the gateway on this log, over a connection of its own. Raises as `Client`."""
    with Client(folder, answer_s) as client:
        return client.ask(do, **rest)
