# ruff: noqa: E501  # one panel, one line
"""The chart's dashboards, said in short; ``helm/generate.py`` writes them as Grafana's JSON.

Every query names its metrics in full and keeps to ``namespace="$namespace"``. Rates are over Grafana's own interval.
A new panel is one line here; tests/integration/telemetry evaluates it on a running suite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NS = 'namespace="$namespace"'
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, its unit, and (query, legend) pairs; ``kind`` is Grafana's name of it."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    kind: str = "timeseries"
    width: int = 8


def one(
    title: str, unit: str, query: str, legend: str = "", *, about: str = "", kind: str = "timeseries", width: int = 8
) -> Panel:
    """A panel with one query."""
    return Panel(title, unit, ((query, legend),), about, kind, width)


def number(title: str, unit: str, query: str, about: str = "") -> Panel:
    """A single number."""
    return one(title, unit, query, about=about, kind="stat", width=4)


def rate(metric: str, by: str = "", more: str = "") -> str:
    """The sum of a counter's rate."""
    return f"sum by ({by}) (rate({metric}{{{NS}{more}}}{RATE}))" if by else f"sum(rate({metric}{{{NS}{more}}}{RATE}))"


def quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{NS}{more}}}{RATE})))"


def spread(title: str, metric: str, by: str = "", legend: str = "", about: str = "") -> Panel:
    """Median and 99th percentile of a time."""
    label = f" {legend}" if legend else ""
    queries = tuple((quantile(share, metric, by), f"{name}{label}") for share, name in ((0.5, "p50"), (0.99, "p99")))
    return Panel(title, "s", queries, about)


def latest(metric: str, by: str = "") -> str:
    """A gauge that several replicas tell alike."""
    return f"max by ({by}) ({metric}{{{NS}}})" if by else f"max({metric}{{{NS}}})"


def process(job: str) -> tuple[Panel, ...]:
    """What every service tells of itself."""
    mine = f'{NS},job="cellkiosk-{job}"'
    return (
        one("Up", "short", f"sum(up{{{mine}}})", "instances", about="Processes that answer the scrape."),
        one("Memory", "bytes", f"process_resident_memory_bytes{{{mine}}}", "{{instance}}", about="Resident set."),
        one(
            "CPU",
            "percentunit",
            f"rate(process_cpu_seconds_total{{{mine}}}{RATE})",
            "{{instance}}",
            about="Of one core.",
        ),
        one("Open files", "short", f"process_open_fds{{{mine}}}", "{{instance}}"),
    )


OVERVIEW = (
    number("Waiting", "short", f"sum({latest('kiosk_queue_waiting', 'type')})", "Jobs that nobody works on yet."),
    number("Running", "short", f"sum({latest('kiosk_queue_running', 'type')})"),
    number("Oldest waiting", "s", latest("kiosk_queue_oldest_seconds"), "Age of the job that has waited longest."),
    number("Done per minute", "short", "60 * " + rate("kiosk_jobs_total", more=',outcome="done"')),
    number("Dead", "short", f"sum({latest('kiosk_queue_dead', 'type')})", "Given up after their attempts."),
    number("Workers", "short", f'max(kiosk_workers{{{NS},state="alive"}})'),
    one("Waiting, by job type", "short", latest("kiosk_queue_waiting", "type"), "{{type}}"),
    one("Age of the oldest job", "s", latest("kiosk_queue_oldest_seconds", "type"), "{{type}}"),
    one("Ended, by outcome", "ops", rate("kiosk_jobs_total", "type, outcome"), "{{type}} {{outcome}}"),
    spread("Submitted to done", "kiosk_job_seconds", "type", "{{type}}"),
    spread("Wait before the first claim", "kiosk_job_wait_seconds", "type", "{{type}}"),
    one("Requests by status", "reqps", rate("kiosk_http_requests_total", "status"), "{{status}}"),
    one("Share of late jobs", "percentunit", f"cellkiosk:jobs_late:ratio_rate5m{{{NS}}}", "of all ended", about="The first SLO."),
    one("Share of failed requests", "percentunit", f"cellkiosk:requests_failed:ratio_rate5m{{{NS}}}", "of all", about="The second SLO."),
    one("Parts that are up", "short", f"sum by (job) (up{{{NS}}})", "{{job}}"),
)  # fmt: skip

FRONTEND = (
    one("Requests", "reqps", rate("kiosk_http_requests_total", "route"), "{{route}}"),
    one("Requests by status", "reqps", rate("kiosk_http_requests_total", "status"), "{{status}}"),
    spread("Time of a request", "kiosk_http_request_seconds", "route", "{{route}}"),
    one("Uploads by outcome", "ops", rate("kiosk_uploads_total", "outcome"), "{{outcome}}"),
    one("Bytes received", "Bps", rate("kiosk_upload_bytes_total"), "uploads"),
    one("Bytes sent", "Bps", rate("kiosk_result_bytes_total"), "results"),
    one("Uploads being received", "short", f"sum(kiosk_uploads_running{{{NS}}})", "uploads"),
    one("Jobs submitted", "ops", rate("kiosk_jobs_submitted_total", "type"), "{{type}}"),
    Panel("Event streams", "short", ((f"sum(kiosk_event_streams{{{NS}}})", "streams"), (f"sum(kiosk_watched_jobs{{{NS}}})", "jobs watched"))),
    one("Events sent", "ops", rate("kiosk_events_total"), "events"),
    one("Refused", "ops", rate("kiosk_refused_total", "reason") + " or vector(0)", "{{reason}}", about="For want of rights or quota."),
    one("Webhooks", "ops", rate("kiosk_webhooks_total", "outcome") + " or vector(0)", "{{outcome}}"),
    *process("frontend"),
)  # fmt: skip

CONSUMER = (
    one("Jobs in flight", "short", f"sum by (type) (kiosk_jobs_running{{{NS}}})", "{{type}}"),
    one("Attempts ended", "ops", rate("kiosk_jobs_total", "type, outcome"), "{{type}} {{outcome}}"),
    Panel("Images and megapixels", "ops", ((rate("kiosk_images_total"), "images/s"), (rate("kiosk_megapixels_total"), "Mpx/s"))),
    spread("Time in each stage", "kiosk_stage_seconds", "stage", "{{stage}}"),
    one("Where the time goes", "percentunit", f"sum by (stage) (rate(kiosk_stage_seconds_sum{{{NS}}}{RATE})) / ignoring (stage) group_left sum(rate(kiosk_stage_seconds_sum{{{NS}}}{RATE}))", "{{stage}}"),
    spread("Model request", "kiosk_model_request_seconds", "model", "{{model}}"),
    one("Model requests repeated", "ops", rate("kiosk_model_retries_total", "model") + " or vector(0)", "{{model}}"),
    Panel("Bytes read and written", "Bps", ((rate("kiosk_input_bytes_total"), "in"), (rate("kiosk_output_bytes_total"), "out"))),
    one("Memory reserved for arrays", "bytes", f"sum by (instance) (kiosk_memory_reserved_bytes{{{NS}}})", "{{instance}}"),
    one("Lease renewals", "ops", rate("kiosk_lease_renewals_total"), "renewals"),
    one("Leases lost", "ops", rate("kiosk_leases_lost_total", "type") + " or vector(0)", "{{type}}", about="Taken from a worker that was still at it."),
    *process("consumer"),
)  # fmt: skip

AUTOSCALER = (
    Panel("Replicas", "short", ((latest("kiosk_autoscaler_wanted_replicas", "target"), "{{target}} wanted"), (latest("kiosk_autoscaler_replicas", "target"), "{{target}} asked for"), (latest("kiosk_autoscaler_ready_replicas", "target"), "{{target}} ready")), width=16),
    one("Work", "short", f"{latest('kiosk_autoscaler_waiting', 'target')} + {latest('kiosk_autoscaler_running', 'target')}", "{{target}}"),
    one("Oldest job of each target", "s", latest("kiosk_autoscaler_oldest_seconds", "target"), "{{target}}"),
    one("Decisions", "ops", rate("kiosk_autoscaler_decisions_total", "target, code"), "{{target}} {{code}}"),
    one("Present decision", "short", f"max by (target, code) (kiosk_autoscaler_state{{{NS}}} == 1)", "{{target}} {{code}}"),
    one("Changes", "ops", rate("kiosk_autoscaler_changes_total", "target, direction"), "{{target}} {{direction}}"),
    Panel("From backlog to patch", "s", tuple((f"histogram_quantile({share}, sum by (le, target) (kiosk_autoscaler_reaction_seconds_bucket{{{NS}}}))", f"{name} {{{{target}}}}") for share, name in ((0.5, "p50"), (0.99, "p99"))), "Since the autoscaler's start: changes are rare."),
    one("Held", "short", latest("kiosk_autoscaler_held", "target"), "{{target}}", about="1 while something cannot be read."),
    one("Queue empty in", "s", latest("kiosk_autoscaler_empty_in_seconds", "target"), "{{target}}", about="-1: unknown."),
    spread("One look at all targets", "kiosk_autoscaler_look_seconds"),
    one("API calls", "ops", rate("kiosk_autoscaler_api_calls_total", "verb, outcome") + " or vector(0)", "{{verb}} {{outcome}}"),
    one("Errors", "ops", rate("kiosk_autoscaler_errors_total", "part") + " or vector(0)", "{{part}}"),
    one("Worker processes that died", "ops", rate("kiosk_autoscaler_replica_deaths_total", "target") + " or vector(0)", "{{target}}", about="On one machine only."),
    one("Leaders", "short", f"sum(kiosk_autoscaler_leader{{{NS}}})", "leaders", about="One is right."),
    *process("autoscaler"),
)  # fmt: skip

JANITOR = (
    one("Repairs", "ops", rate("kiosk_janitor_repairs_total", "type, outcome") + " or vector(0)", "{{type}} {{outcome}}", about="Jobs taken back from workers that are gone."),
    one("Waiting to be tried again", "short", latest("kiosk_queue_delayed", "type"), "{{type}}"),
    one("Dead letters", "short", latest("kiosk_queue_dead", "type"), "{{type}}"),
    one("Workers", "short", latest("kiosk_workers", "state"), "{{state}}"),
    one("Jobs forgotten", "ops", rate("kiosk_janitor_forgotten_jobs_total"), "jobs"),
    one("Objects deleted", "ops", rate("kiosk_janitor_deleted_objects_total", "why") + " or vector(0)", "{{why}}"),
    one("Workers forgotten", "ops", rate("kiosk_janitor_absent_workers_total"), "workers"),
    spread("One round", "kiosk_janitor_round_seconds", "keeper", "{{keeper}}"),
    one("Rounds cut short", "ops", rate("kiosk_janitor_troubles_total", "keeper") + " or vector(0)", "{{keeper}}"),
    one("Next lease ends in", "s", latest("kiosk_janitor_next_deadline_seconds"), "s"),
    *process("janitor"),
)  # fmt: skip

TRITON = (
    one("Inferences", "ops", rate("nv_inference_count", "model"), "{{model}}"),
    one("Executions", "ops", rate("nv_inference_exec_count", "model"), "{{model}}"),
    one("Mean batch", "short", f"{rate('nv_inference_count', 'model')} / {rate('nv_inference_exec_count', 'model')}", "{{model}}", about="Inferences for each execution: how well batching fills."),
    one("Time in the queue", "s", f"{rate('nv_inference_queue_duration_us', 'model')} / {rate('nv_inference_request_success', 'model')} / 1e6", "{{model}}"),
    one("Network busy", "percentunit", rate("kiosk_network_seconds", "model"), "{{model}}", about="Share of time in which the network itself runs, without what is done before and after it."),
    one("Time computing", "s", f"{rate('nv_inference_compute_infer_duration_us', 'model')} / {rate('nv_inference_request_success', 'model')} / 1e6", "{{model}}"),
    one("Failed requests", "ops", rate("nv_inference_request_failure", "model"), "{{model}}"),
    one("Waiting requests", "short", f"sum by (model) (nv_inference_pending_request_count{{{NS}}})", "{{model}}"),
)  # fmt: skip

REDIS = (
    Panel("Memory", "bytes", ((f"max(redis_memory_used_bytes{{{NS}}})", "used"), (f"max(redis_memory_max_bytes{{{NS}}})", "limit"))),
    one("Share of memory in use", "percentunit", f"max(redis_memory_used_bytes{{{NS}}} / (redis_memory_max_bytes{{{NS}}} > 0))", "of the limit", about="At 100 % it refuses new jobs."),
    one("Commands", "ops", f"sum(rate(redis_commands_processed_total{{{NS}}}{RATE}))", "commands"),
    one("Clients", "short", f"max(redis_connected_clients{{{NS}}})", "clients"),
    one("Append-only file", "bytes", f"max(redis_aof_current_size_bytes{{{NS}}})", "size"),
    one("Up", "short", f"max(redis_up{{{NS}}})", "up"),
)  # fmt: skip

COST = (
    one("Cost per hour", "currencyUSD", latest("kiosk_autoscaler_cost_per_hour", "target"), "{{target}}", about="By the targets' price_per_hour."),
    one("Replica-hours today", "h", latest("kiosk_autoscaler_spent_replica_hours", "target"), "{{target}}"),
    one("Budget left", "percentunit", latest("kiosk_autoscaler_budget_left_ratio", "target"), "{{target}}"),
    one("Slowed by the budget", "short", latest("kiosk_autoscaler_over_budget", "target"), "{{target}}"),
    one("GPU nodes, priced", "currencyUSD", f'__GPU_NODE_HOUR__ * count(up{{{NS},job="cellkiosk-triton"}} == 1)', "US$ per hour", about="Running model servers times observability.prices.gpuNodeHour."),
    one("Consumers, priced", "currencyUSD", f'__CONSUMER_HOUR__ * count(up{{{NS},job="cellkiosk-consumer"}} == 1)', "US$ per hour", about="Running consumers times observability.prices.consumerHour."),
    one("Cost of 1000 images", "currencyUSD", f'1000 * (__GPU_NODE_HOUR__ * count(up{{{NS},job="cellkiosk-triton"}} == 1) + __CONSUMER_HOUR__ * count(up{{{NS},job="cellkiosk-consumer"}} == 1)) / (3600 * {rate("kiosk_images_total")})', "US$"),
    one("GPU in use", "percent", f"DCGM_FI_DEV_GPU_UTIL{{{NS}}}", "{{gpu}}"),
    one("GPU memory in use", "decmbytes", f"DCGM_FI_DEV_FB_USED{{{NS}}}", "{{gpu}}"),
    one("GPU temperature", "celsius", f"DCGM_FI_DEV_GPU_TEMP{{{NS}}}", "{{gpu}}"),
    one("GPU power", "watt", f"DCGM_FI_DEV_POWER_USAGE{{{NS}}}", "{{gpu}}"),
)  # fmt: skip

USER = (
    number("Jobs ahead of a new one", "short", f"sum({latest('kiosk_queue_waiting', 'type')})"),
    number("Being worked on", "short", f"sum({latest('kiosk_queue_running', 'type')})"),
    number("Images per minute", "short", f"60 * {rate('kiosk_images_total')}"),
    number("Half are done within", "s", quantile(0.5, "kiosk_job_seconds")),
    number("99 of 100 within", "s", quantile(0.99, "kiosk_job_seconds")),
    number("Queue empty in", "s", f"max(kiosk_autoscaler_empty_in_seconds{{{NS}}})", "-1: unknown."),
    one("How long it takes, by job type", "s", quantile(0.5, "kiosk_job_seconds", "type"), "{{type}}", width=12),
    one("Jobs done", "ops", rate("kiosk_jobs_total", "type", ',outcome="done"'), "{{type}}", width=12),
)  # fmt: skip

BOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "overview": ("Overview", OVERVIEW),
    "frontend": ("Frontend", FRONTEND),
    "consumer": ("Consumers", CONSUMER),
    "autoscaler": ("Autoscaler", AUTOSCALER),
    "janitor": ("Janitor", JANITOR),
    "triton": ("Model servers", TRITON),
    "redis": ("Redis", REDIS),
    "cost": ("GPU and cost", COST),
    "user": ("For users", USER),
}


def boards() -> dict[str, dict[str, Any]]:
    """Return each dashboard, by file name without its ending, as Grafana keeps it."""
    return {name: _board(name, title, panels) for name, (title, panels) in BOARDS.items()}


def _board(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    return {
        "uid": f"cellkiosk-{name}",
        "title": f"CellKiosk / {title}",
        "tags": ["cellkiosk"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "links": [
            {"type": "dashboards", "tags": ["cellkiosk"], "title": "CellKiosk", "asDropdown": True, "keepTime": True}
        ],
        "panels": list(_laid_out(panels)),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "namespace",
            "label": "Namespace",
            "type": "query",
            "datasource": source,
            "query": {"query": "label_values(kiosk_queue_waiting, namespace)", "refId": "namespace"},
            "refresh": 2,
        },
    ]


def _laid_out(panels: tuple[Panel, ...]) -> Any:
    x = y = 0
    for number_, panel in enumerate(panels, 1):
        height = 4 if panel.kind == "stat" else 8
        if x + panel.width > 24:
            x, y = 0, y + (4 if panels[number_ - 2].kind == "stat" else 8)
        yield _panel(number_, panel, {"x": x, "y": y, "w": panel.width, "h": height})
        x += panel.width


def _panel(number_: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number_,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "expr": query, "legendFormat": legend or "__auto", "datasource": source}
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }
