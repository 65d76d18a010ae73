"""What ``kiosk up`` can be told; the parts' own settings pass through it untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import Seconds


class UpSettings(BaseSettings):
    """From the environment, as all settings; a command line option wins."""

    model_config = SettingsConfigDict(env_prefix="KIOSK_", extra="ignore", frozen=True)

    data: Path = Path("data")
    """Folder of all state."""
    host: str = "127.0.0.1"
    """Address that the frontend listens at."""
    port: int | None = Field(None, ge=1, le=65535)
    """TCP port of the frontend; none: 8080, or the next free one."""
    public_url: str = ""
    """Where users reach the frontend; empty: by its host and port."""
    models: Literal["auto", "triton", "process"] = "auto"
    """What runs the models: Triton where it can run, or the consumers' own processes."""
    start_seconds: Seconds = 180.0
    """s that the start may take, installing not counted."""
    grace: Seconds = 10.0
    """s that running jobs get at the end before they are handed back to the queue."""
