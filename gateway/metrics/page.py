"""docs/metrics.md, generated from the declarations: `python -m gateway.metrics.page --write`."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.metrics.declarations import DECLARATIONS, MOST_DESTINATIONS, MOST_FULL_DEVICES

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """# Metrics

Served at `/metrics` of the address under `metrics.listen` in gateway.yaml; beside it `/healthz` (the process lives,
its event loop answers) and `/readyz` (the log takes readings), each with a JSON body that says why. The names are an
interface and stay stable. At most 2,000 series plus 3 per device; no point and no identifier is ever a label. (Every
device has 2, one whose clock can be read 3, one with encryption 1 more: with all 4 of them the bound holds up to
{devices:,} devices beside {destinations} destinations.)

A device that answers but is not well is `degraded`: `edge_gateway_device_up` stays 1, `edge_gateway_devices` counts it
under that state, one log line says why, and `/readyz` names it with its text under `not_well`, as it does devices that
do not answer. The state ends with the link.

The loss account of each destination: `accepted = delivered + waiting + parked + withheld + dropped`, computed from
persisted positions and counted since the destination's start, so that it survives restarts.

| name | kind | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = (f"| `{one.name}` | {one.kind} | {', '.join(one.labels) or '-'} | {one.help} |" for one in DECLARATIONS)
    head = _HEAD.format(devices=MOST_FULL_DEVICES, destinations=MOST_DESTINATIONS)
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
