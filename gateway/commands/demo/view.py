"""What the demo shows: one screen, drawn from the gateway's own metrics and from the centre's database."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.contract.errors import GatewayError

_MARKS = {"up": "green", "online": "green", "starting": "yellow", "connecting": "yellow"}


@dataclass(slots=True)
class Scrape:
    """One reading of /metrics."""

    at: float
    """monotonic seconds"""
    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = field(default_factory=lambda: defaultdict(dict))

    def each(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """All series of a metric with their labels."""
        for labels, value in self.values.get(name, {}).items():
            yield dict(labels), value

    def one(self, name: str, **labels: str) -> float:
        """One series' value, 0 when it is not there."""
        return self.values.get(name, {}).get(tuple(sorted(labels.items())), 0.0)


class ScrapeError(GatewayError):
    """The gateway's metrics cannot be read."""


def scrape(url: str, at: float) -> Scrape:
    """Read /metrics. Raises ScrapeError."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise ScrapeError(f"{url}: {error}") from error
    result = Scrape(at)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            result.values[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return result


def screen(now: Scrape, before: Scrape | None, centre: Mapping[str, Any], elapsed_s: float, hints: list[str]) -> Group:
    """The whole picture."""
    parts: list[RenderableType] = [
        Text(f" edge-gateway demo · {elapsed_s:.0f} s ", style="bold reverse"),
        _devices(now, before),
        _destinations(now, before),
        _centre(centre),
        *(Text(hint, style="dim", overflow="fold") for hint in hints),
    ]
    return Group(*parts)


def _rate(now: Scrape, before: Scrape | None, name: str, labels: Mapping[str, str]) -> float:
    if before is None or now.at <= before.at:
        return 0.0
    return (now.one(name, **labels) - before.one(name, **labels)) / (now.at - before.at)


def _table(title: str, *columns: str) -> Table:
    """Without a frame: everything must fit into 80 columns and 24 lines."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    return table


def _state(state: str) -> Text:
    return Text(state, style=_MARKS.get(state, "red"))


def _devices(now: Scrape, before: Scrape | None) -> Table:
    table = _table("Devices", "device", "state", "adapter", "readings/s", "accepted")
    for labels, up in now.each("edge_gateway_device_up"):
        name = "edge_gateway_readings_accepted_total"
        table.add_row(
            labels["device"],
            _state("up" if up else "down"),
            labels["adapter"],
            f"{_rate(now, before, name, labels):,.1f}",
            f"{now.one(name, **labels):,.0f}",
        )
    return table


def _destinations(now: Scrape, before: Scrape | None) -> Table:
    table = _table(
        "Destinations", "destination", "state", "accepted", "delivered", "waiting", "dropped", "delay", "kB/s"
    )
    for labels, _ in now.each("edge_gateway_destination_state"):
        name = labels["destination"]
        one = {"destination": name}
        dropped = sum(
            value for reason, value in now.each("edge_gateway_account_dropped_total") if reason["destination"] == name
        )
        table.add_row(
            name,
            _state(labels["state"]),
            f"{now.one('edge_gateway_account_accepted_total', **one):,.0f}",
            f"{now.one('edge_gateway_account_delivered_total', **one):,.0f}",
            f"{now.one('edge_gateway_account_waiting', **one):,.0f}",
            f"{dropped:,.0f}",
            f"{now.one('edge_gateway_destination_delay_seconds', **one):.2f} s",
            f"{_rate(now, before, 'edge_gateway_destination_bytes_total', one) / 1000:,.1f}",
        )
    return table


def _centre(centre: Mapping[str, Any]) -> Table:
    table = _table("Centre", "stored", "missing", "came twice", "invalid messages")
    table.add_row(*(f"{centre.get(key, 0):,}" for key in ("stored", "missing", "twice", "invalid")))
    return table
