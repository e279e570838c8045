"""The text of the metrics, read by the reference parsers."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from ktaskd.metrics.catalogue import METRICS
from ktaskd.metrics.exposition import openmetrics, prometheus
from ktaskd.metrics.figures import values
from ktaskd.metrics.ledger import Ended, Ledger, Usage
from tests.metrics.sample import LOOK, ledger, parsed, sample

NASTY = 'a"b\\c\nktaskd_jobs{state="queued"} 7\n# EOF\n\x1b[31mü\U0001f600'


def test_openmetrics_when_parsed_then_each_metric_of_the_catalogue_with_its_labels() -> None:
    families = parsed(openmetrics(values(ledger(), LOOK, str)))
    assert list(families) == [metric.name for metric in METRICS]
    for metric in METRICS:
        family = families[metric.name]
        assert (family.type, family.unit, family.documentation) == (
            metric.kind.value,
            metric.unit,
            metric.help,
        )
        assert family.samples, metric.name
        assert {one.name for one in family.samples} <= set(metric.sample_names)
        assert all(set(one.labels) - {"le"} == set(metric.labels) for one in family.samples)


def test_openmetrics_when_parsed_then_the_values() -> None:
    names = {0: "root", 1000: "ann", 1001: "bob"}
    families = parsed(openmetrics(values(ledger(), LOOK, names.__getitem__)))
    ended = "ktaskd_jobs_ended_total"
    assert sample(families, ended, function="file.sha256", outcome="succeeded", user="ann") == 1
    assert sample(families, ended, function="file.copy", outcome="cancelled", user="bob") == 1
    assert sample(families, "ktaskd_processed_bytes_total", function="file.sha256") == 150
    assert sample(families, "ktaskd_cpu_seconds_total", **{"class": "helper", "user": "root"}) == 2.0
    assert sample(families, "ktaskd_cpu_seconds_total", **{"class": "helper", "user": "ann"}) == 1.0
    assert sample(families, "ktaskd_waited_seconds_total", reason="LEAD_LIMIT") == 1.5
    assert sample(families, "ktaskd_allowance_level", level="fewer") == 1
    assert sample(families, "ktaskd_allowance_level", level="run") == 0
    assert sample(families, "ktaskd_workers", **{"class": "helper", "state": "busy"}) == 3
    assert sample(families, "ktaskd_job_queue_seconds_bucket", le="0.02") == 1
    assert sample(families, "ktaskd_job_queue_seconds_count") == 2
    assert sample(families, "ktaskd_job_run_seconds_sum", function="file.sha256") == 2.0


def test_openmetrics_when_nothing_has_happened_then_valid() -> None:
    assert len(parsed(openmetrics(values(Ledger(), LOOK, str)))) == len(METRICS)


def test_openmetrics_when_a_name_has_quotes_and_newlines_then_it_stays_a_value() -> None:
    accounts = Ledger()
    accounts.note_ended(Ended(Usage("f", 5), "failed", 0.0))
    families = parsed(openmetrics(values(accounts, LOOK, lambda _: NASTY)))
    assert sample(families, "ktaskd_jobs_ended_total", function="f", outcome="failed", user=NASTY) == 1
    assert sample(families, "ktaskd_jobs", state="queued") == 2


def test_prometheus_when_parsed_then_the_types_that_the_textfile_collector_knows() -> None:
    text = prometheus(values(ledger(), LOOK, str)).decode()
    assert "# EOF" not in text
    assert "# UNIT" not in text
    families = list(parse_prometheus(text))
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
    found = {one.name for family in families for one in family.samples}
    assert found == {name for metric in METRICS for name in metric.sample_names}
    # node_exporter has these itself, and refuses a file that repeats them.
    assert all(name.startswith("ktaskd_") for name in found)
