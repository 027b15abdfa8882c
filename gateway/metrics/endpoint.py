"""The HTTP endpoint: /metrics for Prometheus, /healthz and /readyz with a JSON body that says why.

The server has threads of its own and asks the event loop for every answer: a loop that does not answer within 2 s is
what /healthz must report, and nothing that the loop owns is read from outside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeout
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, NamedTuple, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson

from gateway.contract.errors import GatewayError
from gateway.metrics.collector import CONTENT_TYPE, Sample, exposition

_ANSWER_WITHIN_S = 2.0


class EndpointError(GatewayError):
    """The endpoint's address cannot be listened on."""


class Verdict(NamedTuple):
    """An answer of /healthz or /readyz."""

    ok: bool
    body: dict[str, Any]
    """JSON-able: what is well and what is not"""


class Endpoint:
    """Serves metrics and two verdicts while the context is open.

    `samples`, `healthy` and `ready` run on the event loop. Raises EndpointError on entering when the address is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        samples: Callable[[], Iterable[Sample]],
        healthy: Callable[[], Verdict],
        ready: Callable[[], Verdict],
    ) -> None:
        self._host = host
        self._port = port
        self._answers: dict[str, Callable[[], tuple[str, str, bytes]]] = {
            "/metrics": lambda: ("200 OK", CONTENT_TYPE, exposition(samples())),
            "/healthz": lambda: _verdict(healthy()),
            "/readyz": lambda: _verdict(ready()),
        }
        self._loop = asyncio.get_running_loop()
        self._server: WSGIServer | None = None

    async def __aenter__(self) -> Self:
        try:
            server = make_server(self._host, self._port, self._app, server_class=_Server, handler_class=_Handler)
        except OSError as error:
            raise EndpointError(
                f"metrics: cannot listen on {self._host}:{self._port}: {error.strerror or error}. "
                "Is another gateway running? Choose another port under metrics.listen in gateway.yaml"
            ) from error
        threading.Thread(target=server.serve_forever, args=(0.2,), name="metrics", daemon=True).start()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    @property
    def port(self) -> int:
        """The port that is listened on; tells which when the config said 0."""
        assert self._server is not None
        return int(self._server.server_port)

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = self._answers.get(environ.get("PATH_INFO", ""))
        if answer is None:
            status, kind, body = "404 Not Found", "text/plain", b"try /metrics, /healthz or /readyz\n"
        else:
            status, kind, body = self._ask(answer)
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _ask(self, answer: Callable[[], tuple[str, str, bytes]]) -> tuple[str, str, bytes]:
        async def on_loop() -> tuple[str, str, bytes]:
            return answer()

        try:
            return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(_ANSWER_WITHIN_S)
        except (FutureTimeout, RuntimeError):
            return _verdict(Verdict(False, {"event_loop": f"no answer within {_ANSWER_WITHIN_S:g} s"}))


def _verdict(verdict: Verdict) -> tuple[str, str, bytes]:
    status = "200 OK" if verdict.ok else "503 Service Unavailable"
    return status, "application/json", orjson.dumps({"ok": verdict.ok, **verdict.body}) + b"\n"


class _Server(ThreadingMixIn, WSGIServer):
    allow_reuse_address = True
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a log line each."""
