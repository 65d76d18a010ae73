"""The frontend's settings, beside those that all services share."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, SecretStr

from shared.auth.settings import AuthSettings
from shared.costs import CostSettings
from shared.settings import Group, Port, Seconds, ServiceSettings


class UploadSettings(Group):
    """What may be sent."""

    max_bytes: int = Field(50_000_000_000, ge=1)
    """Bytes of one file; more is refused while it arrives."""
    idle_seconds: Seconds = 60.0
    """s without a byte after which an upload is given up."""
    min_rate: int = Field(1_000, ge=0)
    """Bytes/s that an upload must reach on average after its first `idle_seconds`; 0: any."""
    max_parts: int = Field(64, ge=1)
    """Parts of one multipart body."""
    direct_seconds: Seconds = 3_600.0
    """s in which a direct upload to a bucket must begin."""
    direct_digest_bytes: int = Field(10_000_000_000, ge=0)
    """Bytes up to which a direct upload is read once when it is confirmed, for its SHA-256, so that equal files are
    stored once; a larger one has none and is stored for itself."""
    concurrent: int = Field(256, ge=1)
    """Uploads received at once in this process; more are told to come again."""


class ConnectionSettings(Group):
    """How long, and how many, connections are borne."""

    head_seconds: Seconds = 15.0
    """s in which a new connection must have sent the head of its first request."""
    silent: int = Field(1_000, ge=1)
    """Connections that have not done so yet; for more, the oldest of them are closed."""
    open: int = Field(0, ge=0)
    """Connections in all, event streams among them; more are told to come again. 0: as many files as the process may
    open, less 200, and 20,000 at most."""
    linger_seconds: Seconds = 10.0
    """s for which the rest of a refused body is taken and thrown away, so that its sender reads why."""
    reader_seconds: Seconds = 60.0
    """s in which a client must read some of what is sent to it (on Linux 5.11 and newer)."""


class JobSettings(Group):
    """What a job submitted here is given."""

    retention: float | None = Field(7 * 86_400.0, gt=0)
    """s that an ended job, its files and its result links are kept; none: until somebody expires it."""
    max_attempts: int = Field(3, ge=1, le=100)
    """Lost or failed attempts after which a job is given up."""
    batch_files: int = Field(1_000, ge=1, le=100_000)
    """Jobs in one batch."""


class QuotaSettings(Group):
    """What one owner may take; 0: no limit."""

    waiting: int = Field(0, ge=0)
    """Jobs of one owner that wait at once; 0: no limit."""
    requests: float = Field(0.0, ge=0)
    """Requests/s of one owner to one frontend process, averaged over ten seconds; 0: no limit."""
    upload_bytes: int = Field(0, ge=0)
    """Bytes that one owner may upload in an hour, over all frontends; a file joined from parts counts beside them.
    0: no limit."""


class WebhookSettings(Group):
    """Calls to addresses that submitters name."""

    secret: SecretStr = SecretStr("")
    """Key of the HMAC-SHA256 signature; empty: no webhooks are taken."""
    private: bool = False
    """Whether addresses in private networks may be called, for receivers within the own cluster."""
    attempts: int = Field(5, ge=1, le=20)
    """Tries of one call, with growing pauses."""
    timeout: Seconds = 10.0
    """s for one try."""
    per_host: float = Field(10.0, gt=0)
    """Calls/s to one host."""


class Settings(ServiceSettings):
    """All settings of a frontend."""

    host: str = "127.0.0.1"
    """Address to listen at; anything but a loopback address asks for API keys unless set otherwise."""
    port: Port = 8080
    """TCP port; 0 takes a free one and logs it."""
    public_url: str = ""
    """Where users reach this service; empty: as each request names it."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins of other pages that may use the API from a browser. JSON, as in ["https://lab.example"]."""
    results: Literal["stream", "redirect"] = "stream"
    """How gs:// results are served: stream, through this process, or redirect, to a signed address."""
    json_bytes: int = Field(1_000_000, ge=1_000)
    """Bytes of a JSON body."""
    label_viewer: str = ""
    """Another viewer to send results to: an address with {labels}, {image} and {axes} in it, which are filled in, or
    that of a DeepCell Label server, such as https://label.example, whose import form is used."""
    connections: ConnectionSettings = ConnectionSettings()
    uploads: UploadSettings = UploadSettings()
    jobs: JobSettings = JobSettings()
    auth: AuthSettings = AuthSettings()
    quotas: QuotaSettings = QuotaSettings()
    webhooks: WebhookSettings = WebhookSettings()
    cost: CostSettings = CostSettings()

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
