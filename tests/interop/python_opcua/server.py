"""A server of python-opcua, the older FreeOpcUa.

TransferSubscriptions is not supported, and a subscription ends with its connection. Republish answers Good without a
message, whatever is asked. Run in a process of its own, with the protocol of `node_opcua/server.js`:

    python server.py '{"port": 4840, "counters": 100, "period_ms": 100}'
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import datetime
from typing import Any

import opcua
from opcua import ua

URI = "http://interop.test/"


class Counters:
    """Int32 nodes c0, c1, ... that count, all at once."""

    def __init__(self, server: Any, count: int, period_s: float) -> None:
        index = server.register_namespace(URI)
        folder = server.get_objects_node().add_folder(index, "Interop")
        self._server = server
        self._nodes = [
            folder.add_variable(ua.NodeId(f"c{i}", index), f"c{i}", ua.Variant(0, ua.VariantType.Int32))
            for i in range(count)
        ]
        self._value = 0
        self._period_s = period_s
        self._counting = True
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="counting", daemon=True).start()

    def _run(self) -> None:
        tick = threading.Event()
        while True:
            tick.wait(self._period_s)
            with self._lock:
                if self._counting:
                    self._count()

    def _count(self) -> None:
        self._value += 1
        value = ua.DataValue(ua.Variant(self._value, ua.VariantType.Int32))
        value.SourceTimestamp = value.ServerTimestamp = datetime.utcnow()  # the library wants naive times
        for node in self._nodes:
            node.set_value(value)

    def answer(self, op: str) -> dict[str, Any]:
        """Do what a line of standard input asks for."""
        if op in ("run", "pause"):
            with self._lock:
                self._counting = op == "run"
                return {"values": [self._value] * len(self._nodes)}
        if op == "count":
            subscriptions = self._server.iserver.subscription_service.subscriptions
            return {"sessions": len(self._server.bserver.clients), "subscriptions": len(subscriptions)}
        return {"error": f"no such op: {op}"}


def main() -> None:
    options = json.loads(sys.argv[1])
    server = opcua.Server()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options['port']}")
    server.set_application_uri("urn:interop.test:python")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    counters = Counters(server, options.get("counters", 0), options.get("period_ms", 100) / 1000)
    server.start()

    def say(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    say({"ready": True})
    for line in sys.stdin:
        say(counters.answer(json.loads(line)["op"]))
    server.stop()


if __name__ == "__main__":
    main()
