"""All metrics of the janitor."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

repairs = Counter(
    "kiosk_janitor_repairs_total",
    "Jobs taken back from a worker that is gone, by job type and outcome (requeued, buried, released, aside).",
    ["type", "outcome"],
)
forgotten = Counter("kiosk_janitor_forgotten_jobs_total", "Jobs, parts included, forgotten after their retention.")
objects = Counter(
    "kiosk_janitor_deleted_objects_total", "Objects deleted from storage, by why (retention, orphan).", ["why"]
)
absent = Counter("kiosk_janitor_absent_workers_total", "Workers taken off the lists long after their last word.")
troubles = Counter(
    "kiosk_janitor_troubles_total",
    "Rounds cut short because Redis, the storage or the Kubernetes API was in trouble, by keeper.",
    ["keeper"],
)
round_seconds = Histogram("kiosk_janitor_round_seconds", "Time of one round, in seconds, by keeper.", ["keeper"])
next_deadline = Gauge("kiosk_janitor_next_deadline_seconds", "Seconds until the earliest lease ends; -1 without any.")

# The state of the queues is told here and not by the workers, who may all be gone when it matters.
queue_waiting = Gauge("kiosk_queue_waiting", "Jobs that wait, by job type.", ["type"])
queue_running = Gauge("kiosk_queue_running", "Jobs that workers hold, by job type.", ["type"])
queue_delayed = Gauge("kiosk_queue_delayed", "Jobs that wait to be tried again, by job type.", ["type"])
queue_dead = Gauge("kiosk_queue_dead", "Jobs given up after their attempts, by job type.", ["type"])
queue_oldest_seconds = Gauge("kiosk_queue_oldest_seconds", "Age of the oldest waiting job, in seconds.", ["type"])
workers = Gauge("kiosk_workers", "Workers, by state (alive, retiring, absent).", ["state"])
