"""All metrics of the consumer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

jobs = Counter("kiosk_jobs_total", "Attempts that ended, by job type and outcome.", ["type", "outcome"])
running = Gauge("kiosk_jobs_running", "Jobs in flight in this worker.", ["type"])
wait_seconds = Histogram(
    "kiosk_job_wait_seconds", "Time from submit to the first claim, in seconds.", ["type"], buckets=_SECONDS
)
job_seconds = Histogram(
    "kiosk_job_seconds", "Time from submit to the end of a job that is done, in seconds.", ["type"], buckets=_SECONDS
)
stage_seconds = Histogram(
    "kiosk_stage_seconds", "Time that a job spent in a stage, in seconds.", ["type", "stage"], buckets=_SECONDS
)
renewals = Counter("kiosk_lease_renewals_total", "Lease renewals of jobs in flight.")
lost_leases = Counter(
    "kiosk_leases_lost_total", "Jobs that were taken from this worker while it worked on them.", ["type"]
)
bytes_in = Counter("kiosk_input_bytes_total", "Bytes of input files read from storage.", ["type"])
bytes_out = Counter("kiosk_output_bytes_total", "Bytes of results written to storage.", ["type"])
images = Counter("kiosk_images_total", "Image planes analysed.", ["type"])
megapixels = Counter("kiosk_megapixels_total", "Pixels analysed, in millions.", ["type"])
model_seconds = Histogram(
    "kiosk_model_request_seconds", "Time of one request to the model server, in seconds.", ["model"], buckets=_SECONDS
)
model_retries = Counter("kiosk_model_retries_total", "Requests to the model server that had to be repeated.", ["model"])
memory_reserved = Gauge("kiosk_memory_reserved_bytes", "Bytes that jobs in flight have reserved for arrays.")
