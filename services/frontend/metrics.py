"""All metrics of the frontend."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from shared.telemetry.counting import LoopCounter, LoopHistogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)

requests = LoopCounter(
    "kiosk_http_requests_total", "HTTP requests, by route and status.", ["route", "method", "status"]
)
connections_closed = Counter(
    "kiosk_connections_closed_total",
    "Connections closed by the guard, by why: slow-head, too-many-silent, too-many.",
    ["why"],
)
request_seconds = LoopHistogram(
    "kiosk_http_request_seconds",
    "Time of a request without event streams, in seconds.",
    ["route"],
    buckets=_SECONDS,
)
uploads = Counter("kiosk_uploads_total", "Uploads, by outcome: stored, duplicate, refused, broken.", ["outcome"])
upload_bytes = LoopCounter("kiosk_upload_bytes_total", "Bytes of files received.")
uploading = Gauge("kiosk_uploads_running", "Uploads being received.")
submitted = LoopCounter("kiosk_jobs_submitted_total", "Jobs submitted, by job type.", ["type"])
result_bytes = Counter("kiosk_result_bytes_total", "Bytes of stored files sent.")
streams = Gauge("kiosk_event_streams", "Open event streams.")
watched = Gauge("kiosk_watched_jobs", "Jobs that somebody watches.")
events = LoopCounter("kiosk_events_total", "Events sent on all streams.")
refused = Counter("kiosk_refused_total", "Requests refused for want of rights or quota, by reason.", ["reason"])
webhooks = Counter("kiosk_webhooks_total", "Webhook calls, by outcome: delivered, failed, refused.", ["outcome"])
