"""Writes the metrics as text, with the library prometheus_client.

The library takes about 5 MiB and 30 ms to load, so only a daemon with metrics imports this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest as write_prometheus
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as write_openmetrics
from prometheus_client.registry import Collector

from ktaskd.metrics.catalogue import METRICS, Kind, Metric
from ktaskd.metrics.figures import Samples, Value
from ktaskd.metrics.histogram import Histogram

OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class _Families(Collector):
    """The object from which the library collects the metrics."""

    def __init__(self, values: Mapping[str, Samples]) -> None:
        self._values = values

    def collect(self) -> Iterable[Family]:
        return [_family(metric, self._values[metric.name]) for metric in METRICS]


def openmetrics(values: Mapping[str, Samples]) -> bytes:
    """Return all metrics in the OpenMetrics text format."""
    return bytes(write_openmetrics(_Families(values)))  # type: ignore[no-untyped-call]


def prometheus(values: Mapping[str, Samples]) -> bytes:
    """Return all metrics in the Prometheus text format, which node_exporter's textfile collector reads."""
    return bytes(write_prometheus(_Families(values)))


def _family(metric: Metric, samples: Samples) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
        for labels, value in samples:
            assert isinstance(value, Histogram)
            histograms.add_metric(labels, value.buckets(), value.sum_s)
        return histograms
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in samples:
        family.add_metric(labels, _number(value))
    return family


def _number(value: Value) -> float:
    assert not isinstance(value, Histogram)
    return float(value)
