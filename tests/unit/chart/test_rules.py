"""Dashboards, rules and alerts say only what the services really tell, and each alert has its page."""

from __future__ import annotations

import functools
import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from tests.fixtures.helm import CHART, ROOT, of_kind, template
from tests.fixtures.prometheus import alerts_and_records, boards, metrics_in, program, queries, rules, scrapes

#: Metrics of programs that are not ours: Triton, Redis' exporter, NVIDIA's DCGM exporter, Prometheus itself and the
#: Python client. What Triton really tells is seen in tests/integration/telemetry; no GPU and no exporter is there.
FOREIGN = {
    "up",
    *("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"),
    *(f"nv_inference_{name}" for name in ("count", "exec_count", "queue_duration_us", "request_success")),
    *(f"nv_inference_{name}" for name in ("compute_infer_duration_us", "request_failure", "pending_request_count")),
    "kiosk_network_seconds",  # told by Triton, counted by the backend in services/triton
    *(f"redis_{name}" for name in ("memory_used_bytes", "memory_max_bytes", "commands_processed_total", "up")),
    *(f"redis_{name}" for name in ("connected_clients", "aof_current_size_bytes")),
    *(f"DCGM_FI_DEV_{name}" for name in ("GPU_UTIL", "FB_USED", "GPU_TEMP", "POWER_USAGE")),
}
SERVICES = ("frontend", "consumer", "autoscaler", "janitor")
#: Told for programs that come with their own pictures, or only counted for the log.
NO_PANEL: set[str] = set()


@functools.cache
def declared() -> dict[str, MetricWrapperBase]:
    """Every metric of ours by each name under which its samples come."""
    found: dict[str, MetricWrapperBase] = {}
    for service in SERVICES:
        for each in vars(importlib.import_module(f"services.{service}.metrics")).values():
            if isinstance(each, MetricWrapperBase):
                name, kind = each._name, each._type
                ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
                found |= {name + end: each for end in ends}
    return found


def test_every_metric_in_a_panel_or_rule_exists() -> None:
    """So a metric renamed in the code breaks this test."""
    recorded = {rule["record"] for rule in alerts_and_records() if "record" in rule}
    known = set(declared()) | FOREIGN | recorded
    for where, expression in (
        *((f"{board}/{panel}", query) for board, panel, query in queries()),
        *((rule.get("alert") or rule["record"], rule["expr"]) for rule in alerts_and_records()),
    ):
        assert metrics_in(expression) <= known, f"{where}: {metrics_in(expression) - known}"
        assert metrics_in(expression), where


def test_metrics_in_finds_names() -> None:
    query = (
        'histogram_quantile(0.5, sum by (le, type) (rate(a_bucket{x="y z"}[5m]))) / ignoring (b) group_left c:d > 1e6'
    )
    assert metrics_in(query) == {"a_bucket", "c:d"}


def test_every_metric_of_ours_is_shown_or_watched() -> None:
    used = set().union(
        *(metrics_in(query) for _, _, query in queries()), *(metrics_in(r["expr"]) for r in alerts_and_records())
    )
    shown = {declared()[name]._name for name in used & set(declared())}
    assert {each._name for each in declared().values()} - shown - NO_PANEL == set()


def test_metrics_are_named_explained_and_bounded() -> None:
    for metric in declared().values():
        assert metric._name.startswith("kiosk_")
        assert metric._documentation.endswith("."), metric._name
        assert not set(metric._labelnames) & {"job", "id", "owner", "file", "worker", "instance"}, metric._name


def test_dashboards_have_variables_and_unique_names() -> None:
    found = boards()
    services = {"frontend", "consumer", "autoscaler", "janitor", "triton", "redis"}
    assert set(found) == {"overview", "cost", "user"} | services
    assert len({board["uid"] for board in found.values()}) == len(found)
    for name, board in found.items():
        assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "namespace"]
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all('namespace="$namespace"' in target["expr"] for target in panel["targets"]), panel["title"]
            assert panel["title"], name
            assert panel["description"].endswith("."), f"{name}: say what {panel['title']} means"
            assert panel["fieldConfig"]["defaults"]["unit"], f"{name}: {panel['title']} has no unit"
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{name}: {panel['title']} lies over another"
            taken |= cells
            assert place["x"] + place["w"] <= 24


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    alerts = {rule["alert"]: rule for rule in alerts_and_records() if "alert" in rule}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("Kiosk*.md")} == set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
        assert rule["labels"]["severity"] in {"warning", "critical"}
    index = (ROOT / "docs" / "runbooks" / "index.md").read_text()
    told = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", index, re.MULTILINE)
    assert dict(told) == {name: rule["labels"]["severity"] for name, rule in alerts.items()}
    tested = {
        test["alertname"] for case in yaml.safe_load(ALERTS.read_text())["tests"] for test in case["alert_rule_test"]
    }
    assert tested == set(alerts)


def test_nothing_is_left_to_put_in() -> None:
    assert "__" not in rules().replace("__name__", "")
    assert not [query for _, _, query in queries() if re.search(r"__[A-Z]", query)]


def test_slo_is_a_boundary_of_the_histogram() -> None:
    """Else no bucket would ever match."""
    from services.consumer import metrics

    schema = json.loads((CHART / "values.schema.json").read_text())
    allowed = schema["properties"]["observability"]["properties"]["slo"]["properties"]["jobSeconds"]["enum"]
    assert set(map(float, allowed)) <= set(metrics.job_seconds._upper_bounds)
    assert re.findall(r'le="([\d.]+)"', rules())[0] == "300.0"


ALERTS = Path(__file__).with_name("alerts.yaml")


def test_promtool_check(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules())
    subprocess.run([program("promtool"), "check", "rules", tmp_path / "rules.yaml"], check=True, capture_output=True)
    config = yaml.safe_load(scrapes())
    config["rule_files"] = ["rules.yaml"]
    for each in config["scrape_configs"]:
        assert each.pop("kubernetes_sd_configs", True)  # Debian's Prometheus is built without it
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    subprocess.run(
        [program("promtool"), "check", "config", tmp_path / "prometheus.yaml"], check=True, capture_output=True
    )


def test_promtool_test(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules())
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text().replace("RULES", str(tmp_path / "rules.yaml")))
    done = subprocess.run(
        [program("promtool"), "test", "rules", tmp_path / "alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["gke", "everything"])
def test_the_operator_gets_the_same_rules(case: str) -> None:
    rule = of_kind(template(case=case), "PrometheusRule")[0]
    assert rule["spec"]["groups"] == yaml.safe_load(rules())["groups"]
