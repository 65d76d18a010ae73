# ruff: noqa: E501  # one panel, one line
"""The chart's dashboards, said in short; ``helm/generate.py`` writes them as Grafana's JSON.

Every query names its metrics in full and keeps to ``namespace="$namespace"``. Rates are over Grafana's own interval.
A new panel is one line here; tests/integration/telemetry evaluates it on a running suite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    words: tuple[tuple[str, str], ...] = ()
    """Values that are shown as words."""


def one(
    title: str, unit: str, query: str, legend: str = "", *, about: str = "", kind: str = "timeseries", width: int = 8
) -> Panel:
    """A panel with one query."""
    return Panel(title, unit, ((query, legend),), about, kind, width)


def number(title: str, unit: str, query: str, about: str = "") -> Panel:
    """A single number."""
    return one(title, unit, query, about=about, kind="stat", width=4)


def unknowing(panel: Panel) -> Panel:
    """The panel of a time that is told as -1 where it is not known."""
    return replace(panel, words=(("-1", "unknown"),))


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
        one(
            "Open files",
            "short",
            f"process_open_fds{{{mine}}}",
            "{{instance}}",
            about="Sockets too; it follows the connections.",
        ),
    )


OVERVIEW = (
    number("Waiting", "short", f"sum({latest('kiosk_queue_waiting', 'type')})", "Jobs that nobody works on yet."),
    number("Running", "short", f"sum({latest('kiosk_queue_running', 'type')})", about="Jobs that a worker holds now."),
    number("Oldest waiting", "s", latest("kiosk_queue_oldest_seconds"), "Age of the job that has waited longest."),
    number("Done per minute", "short", "60 * " + rate("kiosk_jobs_total", more=',outcome="done"'), about="Jobs that ended well; compare with what is submitted."),
    number("Dead", "short", f"sum({latest('kiosk_queue_dead', 'type')})", "Given up after their attempts."),
    number("Workers", "short", f'max(kiosk_workers{{{NS},state="alive"}})', about="Consumers that tell that they live."),
    one("Waiting, by job type", "short", latest("kiosk_queue_waiting", "type"), "{{type}}", about="A line that only rises means too few workers of this type."),
    one("Age of the oldest job", "s", latest("kiosk_queue_oldest_seconds", "type"), "{{type}}", about="The longest anybody waits now; the alert KioskQueueStuck looks at it."),
    one("Ended, by outcome", "ops", rate("kiosk_jobs_total", "type, outcome"), "{{type}} {{outcome}}", about="Failed is the fault of the input; dead jobs were given up after their attempts."),
    spread("Submitted to done", "kiosk_job_seconds", "type", "{{type}}", about="What people see: all of the way, with the wait."),
    spread("Wait before the first claim", "kiosk_job_wait_seconds", "type", "{{type}}", about="The part of that way in which nobody worked on the job."),
    one("Requests by status", "reqps", rate("kiosk_http_requests_total", "status"), "{{status}}", about="4xx are the callers' faults, 5xx are ours."),
    one("Share of late jobs", "percentunit", f"cellkiosk:jobs_late:ratio_rate5m{{{NS}}}", "of all ended", about="The first SLO."),
    one("Share of failed requests", "percentunit", f"cellkiosk:requests_failed:ratio_rate5m{{{NS}}}", "of all", about="The second SLO."),
    one("Parts that are up", "short", f"sum by (job) (up{{{NS}}})", "{{job}}", about="Processes of each part that answer the scrape."),
)  # fmt: skip

FRONTEND = (
    one("Requests", "reqps", rate("kiosk_http_requests_total", "route"), "{{route}}", about="By route, polls of old clients included."),
    one("Requests by status", "reqps", rate("kiosk_http_requests_total", "status"), "{{status}}", about="4xx are the callers' faults, 5xx are ours."),
    spread("Time of a request", "kiosk_http_request_seconds", "route", "{{route}}", about="Until the last byte of the answer; an upload takes as long as its sender. Event streams are left out."),
    one("Uploads by outcome", "ops", rate("kiosk_uploads_total", "outcome"), "{{outcome}}", about="Refused, cut off or given up ones among them."),
    one("Bytes received", "Bps", rate("kiosk_upload_bytes_total"), "uploads", about="Of uploads."),
    one("Bytes sent", "Bps", rate("kiosk_result_bytes_total"), "results", about="Of results that go through this process rather than by a signed address."),
    one("Uploads being received", "short", f"sum(kiosk_uploads_running{{{NS}}})", "uploads", about="At the limit uploads.concurrent, further ones are told to come again."),
    one("Jobs submitted", "ops", rate("kiosk_jobs_submitted_total", "type"), "{{type}}", about="Accepted jobs by type, children of archives not counted."),
    Panel("Event streams", "short", ((f"sum(kiosk_event_streams{{{NS}}})", "streams"), (f"sum(kiosk_watched_jobs{{{NS}}})", "jobs watched")), about="Open streams of pages and clients, and the different jobs that they watch."),
    one("Events sent", "ops", rate("kiosk_events_total"), "events", about="Changes of jobs told on all streams together."),
    one("Refused", "ops", rate("kiosk_refused_total", "reason") + " or vector(0)", "{{reason}}", about="For want of rights or quota."),
    one("Webhooks", "ops", rate("kiosk_webhooks_total", "outcome") + " or vector(0)", "{{outcome}}", about="Calls to receivers; failed ones are tried again with growing pauses."),
    one("Connections closed", "ops", rate("kiosk_connections_closed_total", "why") + " or vector(0)", "{{why}}", about="By the guard: a head that comes too slowly, too many that are silent, or too many at all."),
    *process("frontend"),
)  # fmt: skip

CONSUMER = (
    one("Jobs in flight", "short", f"sum by (type) (kiosk_jobs_running{{{NS}}})", "{{type}}", about="Held by all consumers; at most work.slots for each."),
    one("Attempts ended", "ops", rate("kiosk_jobs_total", "type, outcome"), "{{type}} {{outcome}}", about="Lost and retried ones among them, so there may be more than jobs."),
    Panel("Images and megapixels", "ops", ((rate("kiosk_images_total"), "images/s"), (rate("kiosk_megapixels_total"), "Mpx/s")), about="What the pool gets done; megapixels are the fairer measure where images differ in size."),
    spread("Time in each stage", "kiosk_stage_seconds", "stage", "{{stage}}", about="Of one job; stages of different jobs overlap."),
    one("Where the time goes", "percentunit", f"sum by (stage) (rate(kiosk_stage_seconds_sum{{{NS}}}{RATE})) / ignoring (stage) group_left sum(rate(kiosk_stage_seconds_sum{{{NS}}}{RATE}))", "{{stage}}", about="Shares of the summed stage times: the largest is what to speed up first."),
    spread("Model request", "kiosk_model_request_seconds", "model", "{{model}}", about="One call to the model server, its queue there included."),
    one("Model requests repeated", "ops", rate("kiosk_model_retries_total", "model") + " or vector(0)", "{{model}}", about="Calls that a server refused or did not answer in time; the alert KioskModelServerFailing looks at it."),
    Panel("Bytes read and written", "Bps", ((rate("kiosk_input_bytes_total"), "in"), (rate("kiosk_output_bytes_total"), "out")), about="From and to the storage."),
    one("Memory reserved for arrays", "bytes", f"sum by (instance) (kiosk_memory_reserved_bytes{{{NS}}})", "{{instance}}", about="Of work.memory; at that limit further jobs wait for room."),
    one("Lease renewals", "ops", rate("kiosk_lease_renewals_total"), "renewals", about="Falls to nothing where consumers hang or cannot reach Redis."),
    one("Leases lost", "ops", rate("kiosk_leases_lost_total", "type") + " or vector(0)", "{{type}}", about="Taken from a worker that was still at it."),
    *process("consumer"),
)  # fmt: skip

AUTOSCALER = (
    Panel("Replicas", "short", ((latest("kiosk_autoscaler_wanted_replicas", "target"), "{{target}} wanted"), (latest("kiosk_autoscaler_replicas", "target"), "{{target}} asked for"), (latest("kiosk_autoscaler_ready_replicas", "target"), "{{target}} ready")), width=16, about="Wanted by the queue, asked for after limits and budget, and ready; asked for above ready means pods on their way or stuck."),
    one("Work", "short", f"{latest('kiosk_autoscaler_waiting', 'target')} + {latest('kiosk_autoscaler_running', 'target')}", "{{target}}", about="Waiting and running jobs, weighted as the target says."),
    one("Oldest job of each target", "s", latest("kiosk_autoscaler_oldest_seconds", "target"), "{{target}}", about="Of the types that the target serves."),
    one("Decisions", "ops", rate("kiosk_autoscaler_decisions_total", "target, code"), "{{target}} {{code}}", about="Why it did what it did; the codes are explained in the page on the autoscaler."),
    one("Present decision", "short", f"max by (target, code) (kiosk_autoscaler_state{{{NS}}} == 1)", "{{target}} {{code}}", about="The reason that holds now."),
    one("Changes", "ops", rate("kiosk_autoscaler_changes_total", "target, direction"), "{{target}} {{direction}}", about="Patches of a replica count, up and down."),
    Panel("From backlog to patch", "s", tuple((f"histogram_quantile({share}, sum by (le, target) (kiosk_autoscaler_reaction_seconds_bucket{{{NS}}}))", f"{name} {{{{target}}}}") for share, name in ((0.5, "p50"), (0.99, "p99"))), "Since the autoscaler's start: changes are rare."),
    one("Held", "short", latest("kiosk_autoscaler_held", "target"), "{{target}}", about="1 while something cannot be read."),
    unknowing(one("Queue empty in", "s", latest("kiosk_autoscaler_empty_in_seconds", "target"), "{{target}}", about="When what waits now will be done; unknown where that cannot be foreseen.")),
    spread("One look at all targets", "kiosk_autoscaler_look_seconds", about="Reading the queues and deciding."),
    one("API calls", "ops", rate("kiosk_autoscaler_api_calls_total", "verb, outcome") + " or vector(0)", "{{verb}} {{outcome}}", about="To Kubernetes; bounded by kubernetes.calls_per_second."),
    one("Errors", "ops", rate("kiosk_autoscaler_errors_total", "part") + " or vector(0)", "{{part}}", about="Reads and patches that failed; the target is held meanwhile."),
    one("Worker processes that died", "ops", rate("kiosk_autoscaler_replica_deaths_total", "target") + " or vector(0)", "{{target}}", about="On one machine only."),
    one("Leaders", "short", f"sum(kiosk_autoscaler_leader{{{NS}}})", "leaders", about="One is right."),
    *process("autoscaler"),
)  # fmt: skip

JANITOR = (
    one("Repairs", "ops", rate("kiosk_janitor_repairs_total", "type, outcome") + " or vector(0)", "{{type}} {{outcome}}", about="Jobs taken back from workers that are gone."),
    one("Waiting to be tried again", "short", latest("kiosk_queue_delayed", "type"), "{{type}}", about="Jobs that pause before their next attempt."),
    one("Dead letters", "short", latest("kiosk_queue_dead", "type"), "{{type}}", about="Jobs that were given up; each has its reason, and the runbook of KioskDeadLettersGrowing says where."),
    one("Workers", "short", latest("kiosk_workers", "state"), "{{state}}", about="Alive, retiring and absent ones."),
    one("Jobs forgotten", "ops", rate("kiosk_janitor_forgotten_jobs_total"), "jobs", about="Ended jobs whose retention is over."),
    one("Objects deleted", "ops", rate("kiosk_janitor_deleted_objects_total", "why") + " or vector(0)", "{{why}}", about="Files of forgotten jobs, and files that belong to none."),
    one("Workers forgotten", "ops", rate("kiosk_janitor_absent_workers_total"), "workers", about="Taken off the lists after long silence."),
    spread("One round", "kiosk_janitor_round_seconds", "keeper", "{{keeper}}", about="Of each keeper; a long one means a slow Redis or storage."),
    one("Rounds cut short", "ops", rate("kiosk_janitor_troubles_total", "keeper") + " or vector(0)", "{{keeper}}", about="By a Redis or storage that was away; they are taken up again."),
    one("Next lease ends in", "s", latest("kiosk_janitor_next_deadline_seconds"), "s", about="At most the lease; below zero for long means that nobody repairs."),
    *process("janitor"),
)  # fmt: skip

TRITON = (
    one("Inferences", "ops", rate("nv_inference_count", "model"), "{{model}}", about="Images or tiles predicted, by model."),
    one("Executions", "ops", rate("nv_inference_exec_count", "model"), "{{model}}", about="Runs of a model; each may take a batch."),
    one("Mean batch", "short", f"{rate('nv_inference_count', 'model')} / {rate('nv_inference_exec_count', 'model')}", "{{model}}", about="Inferences for each execution: how well batching fills."),
    one("Time in the queue", "s", f"{rate('nv_inference_queue_duration_us', 'model')} / {rate('nv_inference_request_success', 'model')} / 1e6", "{{model}}", about="Of a request, before a model takes it; long means that servers are short."),
    one("Network busy", "percentunit", f'{rate("kiosk_network_seconds", "model")} / scalar(count(count by (instance) (kiosk_network_seconds{{{NS}}})))', "{{model}}", about="Share of time in which the network itself runs, without what is done before and after it; the mean over all servers."),
    one("Time computing", "s", f"{rate('nv_inference_compute_infer_duration_us', 'model')} / {rate('nv_inference_request_success', 'model')} / 1e6", "{{model}}", about="Of a request, in the model itself."),
    one("Failed requests", "ops", rate("nv_inference_request_failure", "model"), "{{model}}", about="Refused or failed within the server."),
    one("Waiting requests", "short", f"sum by (model) (nv_inference_pending_request_count{{{NS}}})", "{{model}}", about="In the servers' queues now."),
)  # fmt: skip

REDIS = (
    Panel("Memory", "bytes", ((f"max(redis_memory_used_bytes{{{NS}}})", "used"), (f"max(redis_memory_max_bytes{{{NS}}})", "limit")), about="Jobs cost about 1.5 kB each until they are forgotten."),
    one("Share of memory in use", "percentunit", f"max(redis_memory_used_bytes{{{NS}}} / (redis_memory_max_bytes{{{NS}}} > 0))", "of the limit", about="At 100 % it refuses new jobs."),
    one("Commands", "ops", f"sum(rate(redis_commands_processed_total{{{NS}}}{RATE}))", "commands", about="Scripts count as one each."),
    one("Clients", "short", f"max(redis_connected_clients{{{NS}}})", "clients", about="Connections: some for each process, and one for each that waits for events."),
    one("Append-only file", "bytes", f"max(redis_aof_current_size_bytes{{{NS}}})", "size", about="Rewritten by itself when it has doubled."),
    one("Up", "short", f"max(redis_up{{{NS}}})", "up", about="1 while the exporter reaches Redis."),
)  # fmt: skip

COST = (
    one("Cost per hour", "currencyUSD", latest("kiosk_autoscaler_cost_per_hour", "target"), "{{target}}", about="By the targets' price_per_hour."),
    one("Replica-hours today", "h", latest("kiosk_autoscaler_spent_replica_hours", "target"), "{{target}}", about="Since midnight UTC."),
    one("Budget left", "percentunit", latest("kiosk_autoscaler_budget_left_ratio", "target"), "{{target}}", about="Share of the day's budget; at nothing the target is kept small."),
    one("Slowed by the budget", "short", latest("kiosk_autoscaler_over_budget", "target"), "{{target}}", about="1 while a target would be larger if there were money."),
    one("Model servers, priced", "currencyUSD", f'__SERVER_HOUR__ * (count(up{{{NS},job="cellkiosk-triton"}} == 1) or vector(0))', "US$ per hour", about="Running model servers times observability.prices.gpuNodeHour; where triton.gpus is 0, consumerHour."),
    one("Consumers, priced", "currencyUSD", f'__CONSUMER_HOUR__ * (count(up{{{NS},job="cellkiosk-consumer"}} == 1) or vector(0))', "US$ per hour", about="Running consumers times observability.prices.consumerHour."),
    one("Cost of 1000 images", "currencyUSD", f'1000 * (__SERVER_HOUR__ * (count(up{{{NS},job="cellkiosk-triton"}} == 1) or vector(0)) + __CONSUMER_HOUR__ * (count(up{{{NS},job="cellkiosk-consumer"}} == 1) or vector(0))) / (3600 * {rate("kiosk_images_total")})', "US$", about="The priced nodes of now by the images of now; meaningless while nothing runs."),
    one("GPU in use", "percent", f"DCGM_FI_DEV_GPU_UTIL{{{NS}}}", "{{Hostname}} {{gpu}}", about="Share of time in which the GPU did something; low under load means that batches are small or the network slow."),
    one("GPU memory in use", "mbytes", f"DCGM_FI_DEV_FB_USED{{{NS}}}", "{{Hostname}} {{gpu}}", about="Models stay loaded, so this hardly moves."),
    one("GPU temperature", "celsius", f"DCGM_FI_DEV_GPU_TEMP{{{NS}}}", "{{Hostname}} {{gpu}}", about="Above about 85 °C most GPUs slow down."),
    one("GPU power", "watt", f"DCGM_FI_DEV_POWER_USAGE{{{NS}}}", "{{Hostname}} {{gpu}}", about="A better sign of real work than the share of time."),
)  # fmt: skip

USER = (
    number("Jobs ahead of a new one", "short", f"sum({latest('kiosk_queue_waiting', 'type')})", about="Owners take turns, so one with few jobs waits for fewer than these."),
    number("Being worked on", "short", f"sum({latest('kiosk_queue_running', 'type')})", about="By all workers together."),
    number("Images per minute", "short", f"60 * {rate('kiosk_images_total')}", about="Done for everybody together."),
    number("Half are done within", "s", quantile(0.5, "kiosk_job_seconds"), about="From the submission, of those that ended lately."),
    number("99 of 100 within", "s", quantile(0.99, "kiosk_job_seconds"), about="From the submission, of those that ended lately."),
    unknowing(number("Queue empty in", "s", f"max(kiosk_autoscaler_empty_in_seconds{{{NS}}})", "When what waits now will be done.")),
    one("How long it takes, by job type", "s", quantile(0.5, "kiosk_job_seconds", "type"), "{{type}}", width=12, about="The median from the submission to the result."),
    one("Jobs done", "ops", rate("kiosk_jobs_total", "type", ',outcome="done"'), "{{type}}", width=12, about="By job type."),
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
        "fieldConfig": {"defaults": {"unit": panel.unit, **_mappings(panel)}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "expr": query, "legendFormat": legend or "__auto", "datasource": source}
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }


def _mappings(panel: Panel) -> dict[str, Any]:
    options = {value: {"text": word} for value, word in panel.words}
    return {"mappings": [{"type": "value", "options": options}]} if options else {}
