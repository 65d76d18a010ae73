"""All routes of API v1 but those of resumable uploads, which the tus protocol describes."""

from __future__ import annotations

from services.frontend.v1 import batches, events, files, jobs, offer, results, sign_in
from services.frontend.v1.models import (
    BATCH_ID,
    JOB_ID,
    BatchView,
    Canceled,
    DirectRequest,
    DirectView,
    ExpiryRequest,
    File,
    JobList,
    JobTypeList,
    JobView,
    Me,
    ModelList,
    NewBatchRequest,
    NewJobRequest,
    SignedIn,
    SignInRequest,
)
from services.frontend.v1.routing import Parameter, Route
from shared.jobs.states import ALL

_ONE = JOB_ID.strip("^$")
_ID = Parameter("id", "Id of the job.", {"type": "string", "pattern": JOB_ID}, "path", required=True)
_BATCH = Parameter("id", "Id of the batch.", {"type": "string", "pattern": BATCH_ID}, "path", required=True)
_UPLOAD = Parameter("id", "Id of the upload.", {"type": "string", "pattern": BATCH_ID}, "path", required=True)
_KEY = Parameter(
    "Idempotency-Key",
    "The same order with the same key gives the same job (or batch), however often it is sent.",
    {"type": "string", "maxLength": 200, "pattern": "^[ -~]*$"},
    "header",
)
_SINCE = Parameter(
    "Last-Event-ID", "Id of the last event seen: changes before it are not told again.", {"type": "string"}, "header"
)
_IDS = Parameter(
    "ids",
    "Ids of the jobs, separated by commas; 150 at most.",
    {"type": "string", "pattern": f"^{_ONE}(,{_ONE}){{0,149}}$"},
    required=True,
)
_STREAM = "text/event-stream"
_LIST = (
    Parameter("limit", "Jobs on a page.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
    Parameter("cursor", "From the page before."),
    Parameter("status", "Only jobs of this status.", {"type": "string", "enum": list(ALL)}),
    Parameter("type", "Only jobs of this type."),
)
_SUBMITTED: dict[int, type[JobView] | str] = {201: JobView, 200: JobView}

ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/v1/files", files.upload, "Upload a file", {201: File}, multipart=True,
          errors=(400, 408, 413, 415, 507), tag="files"),
    Route("POST", "/api/v1/files/direct", files.begin, "Get an address in the bucket to put a file at",
          {201: DirectView}, DirectRequest, errors=(400, 404, 408, 413), tag="files"),
    Route("POST", "/api/v1/files/direct/{id}/confirm", files.confirm, "Say that the file is in the bucket",
          {201: File}, parameters=(_UPLOAD,), errors=(400, 404, 409, 415), tag="files"),
    Route("POST", "/api/v1/jobs", jobs.submit, "Submit a job", {**_SUBMITTED}, NewJobRequest, multipart=True,
          parameters=(_KEY,), errors=(400, 404, 408, 413, 415, 422, 507)),
    Route("GET", "/api/v1/jobs", jobs.list_mine, "List your jobs, newest first", {200: JobList}, parameters=_LIST,
          errors=(400,)),
    Route("PUT", "/api/v1/jobs/{id}", jobs.put, "Submit a job under an id of your own", {**_SUBMITTED}, NewJobRequest,
          multipart=True, parameters=(_ID,), errors=(400, 404, 408, 409, 413, 415, 507)),
    Route("GET", "/api/v1/jobs/{id}", jobs.get, "See a job", {200: JobView}, parameters=(_ID,), errors=(404,)),
    Route("DELETE", "/api/v1/jobs/{id}", jobs.cancel, "Cancel a job", {200: Canceled}, parameters=(_ID,),
          errors=(404,)),
    Route("PUT", "/api/v1/jobs/{id}/expiry", jobs.expire, "Say when a job is forgotten", {200: JobView}, ExpiryRequest,
          parameters=(_ID,), errors=(400, 404, 413)),
    Route("POST", "/api/v1/jobs/{id}/retry", jobs.retry, "Submit a failed job again, as a new one", {201: JobView},
          parameters=(_ID,), errors=(404, 409)),
    Route("GET", "/api/v1/jobs/{id}/events", events.of_job, "Watch a job", {200: _STREAM}, parameters=(_ID, _SINCE),
          errors=(404,), tag="events"),
    Route("GET", "/api/v1/jobs/{id}/result", jobs.result, "Get the result", {200: "application/zip"},
          parameters=(_ID,), errors=(404,)),
    Route("GET", "/api/v1/jobs/{id}/preview.png", jobs.preview, "Get a picture of the image", {200: "image/png"},
          parameters=(_ID,), errors=(404,)),
    Route("GET", "/api/v1/jobs/{id}/view", jobs.view, "Get image and cells as tiles, in ranges",
          {200: "application/octet-stream"}, parameters=(_ID,), errors=(404,)),
    Route("GET", "/api/v1/results", results.of_mine, "Get the results of many of your jobs in one zip",
          {200: "application/zip"}, errors=(400, 404),
          parameters=(Parameter("ids", "Ids of the jobs, separated by commas, 150 at most; without: all of yours."),)),
    Route("GET", "/api/v1/events", events.of_list, "Watch several jobs", {200: _STREAM, 204: ""},
          parameters=(_IDS, _SINCE),
          errors=(400,), tag="events"),
    Route("POST", "/api/v1/batches", batches.submit, "Submit one job for each of many files",
          {201: BatchView, 200: BatchView}, NewBatchRequest, parameters=(_KEY,), errors=(400, 404, 413, 422),
          tag="batches"),
    Route("GET", "/api/v1/batches/{id}", batches.get, "See a batch", {200: BatchView}, parameters=(_BATCH,),
          errors=(404,), tag="batches"),
    Route("DELETE", "/api/v1/batches/{id}", batches.cancel, "Cancel a batch", {200: Canceled}, parameters=(_BATCH,),
          errors=(404,), tag="batches"),
    Route("GET", "/api/v1/batches/{id}/result", results.of_batch, "Get the results of a batch in one zip",
          {200: "application/zip"}, parameters=(_BATCH,), errors=(404,), tag="batches"),
    Route("GET", "/api/v1/batches/{id}/events", events.of_batch, "Watch a batch", {200: _STREAM},
          parameters=(_BATCH, _SINCE), errors=(404,), tag="events"),
    Route("GET", "/api/v1/job-types", offer.job_types, "List the job types", {200: JobTypeList}, tag="offer"),
    Route("GET", "/api/v1/models", offer.models, "List the models", {200: ModelList}, tag="offer"),
    Route("POST", "/api/v1/sign-in", sign_in.sign_in, "Get a cookie for an API key", {200: SignedIn}, SignInRequest,
          errors=(400, 413), tag="offer"),
    Route("DELETE", "/api/v1/sign-in", sign_in.sign_out, "Give the cookie back", {204: ""}, tag="offer"),
    Route("GET", "/api/v1/me", offer.me, "See who you are here", {200: Me}, tag="offer"),
)  # fmt: skip
