"""All metrics of the autoscaler. Labels are names of configured targets and a few words, so they are bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_REACTION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)

waiting = Gauge("kiosk_autoscaler_waiting", "Weighted jobs that wait for a target.", ["target"])
running = Gauge("kiosk_autoscaler_running", "Weighted jobs that run on a target.", ["target"])
oldest_seconds = Gauge("kiosk_autoscaler_oldest_seconds", "Age of the oldest job that waits for a target.", ["target"])
wanted = Gauge("kiosk_autoscaler_wanted_replicas", "Replicas that the work needs, within the bounds.", ["target"])
actual = Gauge("kiosk_autoscaler_replicas", "Replicas that are asked for now.", ["target"])
ready = Gauge("kiosk_autoscaler_ready_replicas", "Replicas that work.", ["target"])
state = Gauge("kiosk_autoscaler_state", "1 for the kind of the last decision of a target, else 0.", ["target", "code"])
held = Gauge("kiosk_autoscaler_held", "1 while nothing is decided because something cannot be read.", ["target"])
decisions = Counter("kiosk_autoscaler_decisions_total", "Decisions by kind.", ["target", "code"])
changes = Counter("kiosk_autoscaler_changes_total", "Replicas added and removed.", ["target", "direction"])
reaction_seconds = Histogram(
    "kiosk_autoscaler_reaction_seconds",
    "Time from the first sign of more work to the changed number of replicas, in seconds.",
    ["target"],
    buckets=_REACTION,
)
spent_hours = Gauge("kiosk_autoscaler_spent_replica_hours", "Replica-hours used since midnight (UTC).", ["target"])
budget_left = Gauge("kiosk_autoscaler_budget_left_ratio", "Share of the day's budget that is left.", ["target"])
over_budget = Gauge("kiosk_autoscaler_over_budget", "1 while the budget keeps a target small.", ["target"])
cost_per_hour = Gauge("kiosk_autoscaler_cost_per_hour", "Money that a target costs at its present size.", ["target"])
empty_in_seconds = Gauge(
    "kiosk_autoscaler_empty_in_seconds", "Foreseen time until a target's queue is empty; -1 for unknown.", ["target"]
)
deaths = Counter("kiosk_autoscaler_replica_deaths_total", "Local worker processes that died.", ["target"])
errors = Counter("kiosk_autoscaler_errors_total", "Failed attempts to read or change something.", ["part"])
api_calls = Counter("kiosk_autoscaler_api_calls_total", "Calls to the Kubernetes API.", ["verb", "outcome"])
leader = Gauge("kiosk_autoscaler_leader", "1 where this replica of the autoscaler acts.")
look_seconds = Histogram(
    "kiosk_autoscaler_look_seconds", "Time of one look at all targets, in seconds.", buckets=_REACTION
)

#: What is known of each target by the one that decides, and by nobody else.
OF_TARGETS = (
    waiting,
    running,
    oldest_seconds,
    wanted,
    actual,
    ready,
    held,
    spent_hours,
    budget_left,
    over_budget,
    cost_per_hour,
    empty_in_seconds,
)
