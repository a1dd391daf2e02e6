"""/metrics: the app's counts and the service's status in the text format of Prometheus, from a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from nearline.serve._service import Service
from nearline.serve._traffic import BOUNDS, Traffic

MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Collects when asked, so that a request pays for nothing but its counts."""

    def __init__(self, service: Service, traffic: Traffic) -> None:
        self._service, self._traffic = service, traffic
        self.open_requests = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics."""
        return generate_latest(self._registry)

    def describe(self) -> list[Any]:
        """Nothing: the metrics are not known before they are collected."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics now."""
        yield from self._requests()
        yield _gauge("nearline_open_requests", "Requests being answered", self.open_requests)
        waiting = GaugeMetricFamily("nearline_waiting_rows", "Rows not yet durable", labels=["log"])
        waiting.add_metric(["predictions"], self._service.predictions.waiting)
        waiting.add_metric(["outcomes"], self._service.outcomes.waiting)
        yield waiting
        yield _gauge("nearline_ready", "Whether predictions are served", float(self._service.unready is None))
        yield from _status(self._service.status())

    def _requests(self) -> Iterator[Any]:
        traffic = self._traffic
        requests = CounterMetricFamily("nearline_requests", "Requests answered", labels=["route", "status"])
        for (route, status), count in traffic.requests.items():
            requests.add_metric([route, str(status)], count)
        rows = CounterMetricFamily("nearline_rows", "Rows scored, or outcomes accepted", labels=["route"])
        for route, count in traffic.rows.items():
            rows.add_metric([route], count)
        seconds = HistogramMetricFamily("nearline_request_seconds", "Time to answer, durable", labels=["route"])
        for route, counts in traffic.buckets.items():
            bounds = [*map(str, BOUNDS), "+Inf"]
            seconds.add_metric([route], list(zip(bounds, accumulate(counts))), traffic.seconds[route])
        yield from (requests, rows, seconds)


def _gauge(name: str, text: str, value: float) -> Any:
    return GaugeMetricFamily(name, text, value=value)


def _status(status: dict[str, Any]) -> Iterator[Any]:
    """What the service says of itself; a part that it does not say is left out."""
    model, freshness = status.get("model", {}), status.get("freshness", {})
    if "version" in model:
        info = GaugeMetricFamily("nearline_model_info", "The live version", labels=["version"])
        info.add_metric([str(model["version"])], 1.0)
        yield info
    for place, key, name, text in _GAUGES:
        value = {"model": model, "freshness": freshness, "quality": status.get("quality", {})}[place].get(key)
        if isinstance(value, int | float):
            yield _gauge(name, text, float(value))
    joins = CounterMetricFamily("nearline_joins", "Predictions by what became of them", labels=["action"])
    for action, count in status.get("joins", {}).items():
        if isinstance(count, int | float):
            joins.add_metric([action], float(count))
    yield joins
    yield from _selection(status.get("selection") or {})


def _selection(selection: dict[str, Any]) -> Iterator[Any]:
    """By rule, what training chose and how its network predicts."""
    for key, name, text in _CHOSEN:
        gauge = GaugeMetricFamily(name, text, labels=["rule", "role"])
        for rule in selection.get("rules", ()):
            if isinstance(rule.get(key), int | float):
                gauge.add_metric([str(rule["rule"]), str(rule["role"])], float(rule[key]))
        if gauge.samples:
            yield gauge


_CHOSEN = (
    ("total_seen", "nearline_selection_seen", "Examples that the network's training has chosen from"),
    ("total_chosen", "nearline_selection_chosen", "Examples that the network was trained on"),
    ("effective", "nearline_selection_effective", "Effective sample size of the last training's weights"),
    ("largest_weight", "nearline_selection_largest_weight", "Largest weight in the last training"),
    ("uniform_share", "nearline_selection_uniform_share", "Uniform share of the draws at the end of the last training"),
    ("kappa", "nearline_selection_kappa", "How far recorded scores are trusted: 1 all, 0 not at all"),
    ("log_loss", "nearline_selection_log_loss", "Log loss of the network alone on examples it had not learned"),
    (
        "calibration",
        "nearline_selection_calibration",
        "Mean prediction of the network alone over mean outcome, on those",
    ),
)


_GAUGES = (
    ("model", "bytes", "nearline_model_bytes", "Bytes of posteriors"),
    ("model", "learned", "nearline_model_learned", "Examples learned by the live version"),
    ("freshness", "lag_s", "nearline_lag_seconds", "How old the newest outcome learned is while others wait, else 0"),
    ("freshness", "waiting", "nearline_waiting_outcomes", "Outcomes not yet learned"),
    (
        "quality",
        "negative_flips",
        "nearline_negative_flips",
        "Share of the newest events that the stale model had right and the live one wrong",
    ),
)
