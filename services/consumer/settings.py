"""The consumer's settings, beside those that all services share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import Group, Seconds, ServiceSettings


class WorkSettings(Group):
    """How much a worker takes on at once."""

    types: tuple[str, ...] = ()
    """Job types to serve; empty: all that are installed. JSON, as in ["segmentation", "archive"]."""
    slots: int = Field(16, ge=1, le=4096)
    """Jobs in flight: enough that the stages of different jobs, from download to upload, overlap."""
    lease: Seconds = 15.0
    """s that a job stays this worker's without renewal; what a killed worker held runs again within 1.5 of it."""
    renew: Seconds = 5.0
    """s between renewals; a third of the lease, so that two may be lost."""
    threads: int = Field(2, ge=1, le=256)
    """Threads for array work; about one for each core."""
    memory: int = Field(4_000_000_000, ge=100_000_000)
    """Bytes of decoded images and label images that all jobs in flight may hold together; more waits."""


class LimitSettings(Group):
    """What one job may cost."""

    job_memory: int = Field(2_000_000_000, ge=10_000_000)
    """Bytes; checked from an image's header before it is decoded."""
    image_pixels: int = Field(1_000_000_000, ge=1)
    """Pixels of all planes and channels of one image together."""
    decode_seconds: Seconds = 300.0
    """s until a decoder that does not come back is ended."""
    decoders: int = Field(2, ge=1, le=64)
    """Helper processes that decode images, each on its own, so that a crash there fails one job only."""
    archive_members: int = Field(10_000, ge=1)
    """Files in one archive."""
    archive_bytes: int = Field(100_000_000_000, ge=1)
    """Bytes of an archive's members together, decompressed."""
    frames: int = Field(2_000, ge=2)
    """Frames of one movie."""


class ModelServerSettings(Group):
    """Where the models are."""

    url: str = "grpc://127.0.0.1:8001"
    """grpc://host:port[,host:port] is Triton; onnx://folder runs the models of a repository in this process."""
    patience: Seconds = 60.0
    """s that one job waits while the model server answers nobody, before the attempt counts as lost."""


class Settings(ServiceSettings):
    """All settings of a consumer."""

    work: WorkSettings = WorkSettings()
    limits: LimitSettings = LimitSettings()
    model_server: ModelServerSettings = ModelServerSettings()
    scratch: Path = Path("/tmp/kiosk")  # noqa: S108  # a volume in a container
    """Folder for files of jobs in flight; emptied of its own leftovers at the start."""
    public_url: str = "http://127.0.0.1:8080"
    """Where users reach the frontend; result links begin with it."""
