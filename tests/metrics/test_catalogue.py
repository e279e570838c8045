"""The documentation lists each metric, and the dashboard asks for no other one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ktaskd.metrics.catalogue import METRICS, Kind
from ktaskd.metrics.exposition import openmetrics
from ktaskd.metrics.figures import values
from tests.metrics.sample import LOOK, ledger, parsed
from tests.support.users import REPOSITORY

OF_THE_SCRAPER = {"instance", "job"}
"""Labels that Prometheus adds to each sample."""

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
_SELECTOR = re.compile(r"\b(ktaskd_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_BY = re.compile(r"\b(?:by|without) \(([^)]*)\)")
_VALUE = re.compile(r"\{\{(\w+)\}\}")


def exported() -> dict[str, set[str]]:
    """The samples of an exposition by name, each with its labels."""
    families = parsed(openmetrics(values(ledger(), LOOK, str)))
    found: dict[str, set[str]] = {}
    for family in families.values():
        for one in family.samples:
            found.setdefault(one.name, set()).update(one.labels)
    return found


def queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each query of a dashboard, with the form of its legend."""
    for panel in panels:
        yield from queries(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


def complaints(query: str, legend: str, known: dict[str, set[str]]) -> list[str]:
    """Names and labels of a query that no sample has."""
    selectors = _SELECTOR.findall(query)
    names = set(re.findall(r"\bktaskd_\w+", query))
    wrong = [f"{name}: is not exported" for name in sorted(names - set(known))]
    wrong += [
        f"{name}: has no selector of the machine" for name in sorted(names - {one for one, _ in selectors})
    ]
    for name, matchers in selectors:
        labels = known.get(name, set()) | OF_THE_SCRAPER
        wrong += [f"{name}: has no label {key}" for key, _ in _MATCHER.findall(matchers) if key not in labels]
    labels = {label for name in names for label in known.get(name, ())} | OF_THE_SCRAPER
    asked = {label.strip() for group in _BY.findall(query) for label in group.split(",")}
    asked |= set(_VALUE.findall(legend))
    return wrong + [f"no metric of the query has the label {label}" for label in sorted(asked - labels)]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / "deploy/grafana/ktaskd.json").read_text())
    return found


def test_dashboard_when_its_queries_are_read_then_each_metric_and_label_is_exported() -> None:
    known, found = exported(), list(queries(dashboard()["panels"]))
    assert len(found) >= 20
    assert not [wrong for query, legend in found for wrong in complaints(query, legend, known)]


def test_dashboard_when_its_queries_are_read_then_each_metric_is_shown() -> None:
    text = " ".join(query for query, _ in queries(dashboard()["panels"]))
    assert not [metric.name for metric in METRICS if not any(name in text for name in metric.sample_names)]


def test_dashboard_when_rates_are_shown_then_only_of_what_grows() -> None:
    growing = {name for one in METRICS if one.kind is not Kind.GAUGE for name in one.sample_names}
    for query, _ in queries(dashboard()["panels"]):
        rated = set(re.findall(r"rate\((ktaskd_\w+)", query))
        assert rated == set(re.findall(r"ktaskd_\w+", query)) & growing, query


def test_dashboard_when_panels_are_placed_then_none_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    ("query", "legend", "wrong"),
    [
        ('ktaskd_none{instance="a"}', "", "ktaskd_none: is not exported"),
        ("ktaskd_handles", "", "has no selector"),
        ('ktaskd_jobs{outcome="failed"}', "", "has no label outcome"),
        ('sum by (user) (ktaskd_jobs{state="queued"})', "", "has the label user"),
        ('ktaskd_jobs{state="queued"}', "{{class}}", "has the label class"),
    ],
)
def test_complaints_when_a_query_is_wrong_then_named(query: str, legend: str, wrong: str) -> None:
    assert any(wrong in text for text in complaints(query, legend, exported()))


def test_documentation_when_its_table_is_read_then_all_metrics_as_they_are() -> None:
    rows = _ROW.findall((REPOSITORY / "docs/metrics.md").read_text())
    assert rows == [
        (
            one.sample_names[0] if one.kind is not Kind.HISTOGRAM else one.name,
            one.kind.value,
            labels(one.labels),
            one.help,
        )
        for one in METRICS
    ]


def labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
