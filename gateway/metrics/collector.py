"""Turns samples into metric families; whatever is not declared cannot be exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from gateway.metrics.declarations import DECLARATIONS


class Sample(NamedTuple):
    """One value of one declared metric."""

    name: str
    value: float
    labels: tuple[str, ...] = ()
    """values in the order of the declaration's labels"""


class GatewayCollector(Collector):
    """Asks `samples` at each scrape and exports them under their declarations.

    Raises KeyError at the scrape for a sample whose name is not declared.
    """

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            one.name: (CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily)(
                one.name, one.help, labels=one.labels
            )
            for one in DECLARATIONS
        }
        for sample in self._samples():
            families[sample.name].add_metric(sample.labels, sample.value)
        yield from (family for family in families.values() if family.samples)


def registry_of(samples: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """A registry of its own (never the global one) that exports these samples."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(samples))
    return registry
