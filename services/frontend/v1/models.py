"""What goes in and out of API v1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal[
    "new",
    "started",
    "pre-processing",
    "predicting",
    "post-processing",
    "saving-results",
    "waiting",
    "done",
    "failed",
    "canceled",
]
JOB_ID = r"^[a-z0-9][a-z0-9-]{0,62}:[0-9a-f]{32}(\.[0-9]{1,6})*$"
BATCH_ID = r"^[0-9a-f]{32}$"
Name = Annotated[str, Field(min_length=1, max_length=200)]
FileKey = Annotated[str, Field(min_length=1, max_length=300, examples=["uploads/0123456789abcdef0123456789abcdef.tif"])]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Work(_In):
    """What is to be done with a file."""

    type: Name = Field(description="The job type, or one of its aliases; for an archive, that of its images.")
    options: dict[str, Any] = Field(
        default_factory=dict, max_length=100, description="As the job type's schema allows; see the job types."
    )
    model: str = Field("", max_length=200, description="Name of the model; empty for the job type's own.")
    model_version: str = Field("", max_length=50, description="Version of the model; empty for the newest.")
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first among your own jobs.")
    webhook: str = Field("", max_length=2000, description="Address that is called at start, progress and end.")


class NewJobRequest(Work):
    """A job on a file that was uploaded before."""

    file: FileKey = Field(description="What the upload answered as `file`.")
    name: str = Field("", max_length=200, description="The file's name for people; empty for that of the upload.")
    batch: str = Field("", pattern=r"^([0-9a-f]{32})?$", description="Batch to add the job to; 32 hex digits you make.")


class NewBatchFile(_In):
    """One file of a batch."""

    file: FileKey
    name: str = Field("", max_length=200)


class NewBatchRequest(Work):
    """One job for each of many uploaded files."""

    files: list[NewBatchFile] = Field(min_length=1, max_length=100_000)


class ExpiryRequest(_In):
    """When an ended job is forgotten."""

    seconds: float | None = Field(
        ge=0,
        le=10 * 366 * 86_400,
        strict=True,
        description="s from its end, or from now if it has ended; null keeps it.",
    )


class SignInRequest(_In):
    """An API key, for a cookie."""

    key: str = Field(min_length=1, max_length=200)


class SignedIn(_Out):
    """The owner of the key."""

    owner: str


class Problem(_Out):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable word for the kind of error.")
    detail: str = Field(description="A sentence that says what is wrong and what is allowed.")


class File(_Out):
    """An uploaded file."""

    file: str = Field(description="Its key, to be named in jobs.")
    name: str
    size: int = Field(description="Bytes.")
    sha256: str | None = Field(description="Hexadecimal; null of a very large file that went straight to the bucket.")
    media_type: str


class DirectRequest(_In):
    """A file that is to be put straight into the bucket."""

    name: str = Field(min_length=1, max_length=1000, description="Its name, perhaps with its path.")
    size: int = Field(ge=1, le=2**53, description="Bytes.")
    resumable: bool = Field(
        False,
        description="Whether in pieces, to a session as the resumable uploads of Google Cloud Storage have it, which "
        "goes on where it broke; else in one request.",
    )


class DirectView(_Out):
    """Where to put it, and how to say that it is there."""

    id: str
    name: str
    url: str = Field(description="Good for anybody who has it, until it expires.")
    method: str
    headers: dict[str, str] = Field(description="To be sent with the file, exactly so.")
    expires_at: str
    confirm: str = Field(description="To be called with POST once the file is there.")


class Links(_Out):
    """Where to find what belongs to a job; null where there is nothing (yet)."""

    self: str
    events: str
    result: str | None = None
    preview: str | None = None
    view: str | None = Field(None, description="What the page's viewer reads in ranges.")
    download: str | None = Field(None, description="The result under an address that needs no key; it expires.")


class Cost(_Out):
    """What a job, or all jobs of a batch, used; with the deployment's price list, what that is worth."""

    gpu_seconds: float = Field(description="Share of the time in which the model server was busy.")
    cpu_seconds: float = Field(description="Processor time of all other work.")
    bytes_in: int = Field(description="Read from storage.")
    bytes_out: int = Field(description="Written to storage.")
    gpu: float | None = Field(description="Worth of `gpu_seconds`; null where this deployment names no machines.")
    cpu: float | None = Field(description="Worth of `cpu_seconds`.")
    network: float | None = Field(description="Worth of the bytes.")
    total: float | None = Field(description="Worth of all.")
    prices: str | None = Field(description="The price list.")
    currency: str | None = Field(description="Sign or code of its currency; empty where it does not say.")


class JobView(_Out):
    """A job."""

    id: str
    type: str
    status: Status
    progress: int = Field(description="Percent.")
    name: str
    file: str
    options: dict[str, Any]
    model: str
    model_version: str
    axes: str = Field(description="Order of the image's dimensions, as it was read; empty before.")
    priority: int
    item_type: str | None = Field(description="Of an archive: the job type of its images.")
    batch: str | None
    revived_from: str | None = Field(description="The failed or canceled job that this one tries again.")
    created_at: str
    updated_at: str
    finished_at: str | None
    attempt: int = Field(description="How many times it was begun.")
    position: int | None = Field(description="Place among your own waiting jobs of the type, from 1.")
    reason: str | None = Field(description="Why it failed or was canceled.")
    failures: dict[str, str] = Field(description="Of an archive: parts that failed, with the reason.")
    total_jobs: int | None
    seconds: dict[str, float | list[float]] = Field(description="Time of each stage, s.")
    cost: Cost | None = Field(description="What it used, its parts included; null before its end.")
    links: Links


class JobEvent(_Out):
    """A change of a job, as the event streams tell it."""

    id: str
    status: Status
    progress: int
    position: int | None
    eta: float | None = Field(description="Estimated s until it is done; null where nothing is known.")
    updated_at: str
    finished_at: str | None
    name: str
    reason: str | None
    failures: dict[str, str]
    cost: Cost | None = Field(description="What it used; null before its end.")
    links: Links


class JobList(_Out):
    """Some of one's jobs, newest first."""

    jobs: list[JobView]
    cursor: str | None = Field(description="To be given back for the next page; null on the last.")


class BatchView(_Out):
    """Many jobs with one progress."""

    id: str
    total: int
    progress: float = Field(description="Percent of the whole.")
    counts: dict[str, int] = Field(description="Jobs by status.")
    final: bool
    cost: Cost | None = Field(description="What its ended jobs used together; null before the first has ended.")
    jobs: list[str]


class Canceled(_Out):
    """How many jobs were canceled now."""

    canceled: int


class JobTypeView(_Out):
    """A job type on offer."""

    name: str
    title: str
    description: str
    aliases: list[str]
    model: str
    accepts: list[str]
    options_schema: dict[str, Any]


class JobTypeList(_Out):
    """All job types, the default first."""

    job_types: list[JobTypeView]


class ModelList(_Out):
    """Models and their versions."""

    models: dict[str, list[str]]


class Me(_Out):
    """Who asks, and what is allowed here."""

    owner: str
    scopes: list[str]
    signed_in: bool
    anonymous: bool
    max_upload_bytes: int
    batch_files: int
    label_viewer: str
    version: str
