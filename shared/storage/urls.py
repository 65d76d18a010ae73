"""From a URL to a storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from shared.errors import InvalidInput, Misconfigured
from shared.storage.connection import Connection
from shared.storage.file import FileStorage
from shared.storage.gcs import GcsStorage
from shared.storage.names import checked
from shared.storage.protocol import Storage


def open_storage(url: str, deployment: str = "kiosk", *, gcs_api_root: str = "") -> Storage:
    """Open the storage at ``file:///folder`` or ``gs://bucket/prefix``; needs a running event loop only for gs://.

    ``file://…?fsync=1`` forces every object to the disk before it counts as stored. Without it a power cut may lose the
    objects of the last seconds (never show a cut one: sizes are checked), which is what most people want on a laptop.

    Args:
        url: where.
        deployment: the mark on everything written.
        gcs_api_root: another address of the GCS API, for an emulator; empty for the real one.

    Raises:
        Misconfigured: the URL is not one of these, or the deployment's name is empty.
    """
    if not deployment or not deployment.isprintable():
        raise Misconfigured(
            "KIOSK_STORAGE__DEPLOYMENT is empty: it must be a word, the mark on what this deployment writes."
        )
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.netloc.removeprefix("localhost") + parts.path))
        if not parts.path.strip("/") or parts.netloc not in {"", ".", "localhost"}:
            raise Misconfigured(f"KIOSK_STORAGE__URL {url!r} names no folder: file:///folder is allowed.")
        return FileStorage(folder, deployment, fsync=parse_qs(parts.query).get("fsync") == ["1"])
    if parts.scheme == "gs" and parts.netloc:
        prefix = _prefix(url, parts.path)
        return GcsStorage(Connection(parts.netloc, gcs_api_root), prefix, deployment)
    raise Misconfigured(f"KIOSK_STORAGE__URL {url!r} is no storage: file:///folder or gs://bucket/prefix is allowed.")


def _prefix(url: str, path: str) -> str:
    prefix = unquote(path).strip("/")
    if not prefix:
        return ""
    try:
        return checked(prefix) + "/"
    except InvalidInput as error:
        raise Misconfigured(f"KIOSK_STORAGE__URL {url!r} has a prefix that cannot be: {error}") from error
