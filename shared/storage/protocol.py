"""What every storage does, and what it tells of an object.

A key is a path such as ``uploads/3f2a….tif``: UTF-8, at most 1024 bytes, parts separated by single slashes (see
``names.py``). Every object written through here carries the deployment's mark, so that a janitor in a shared bucket or
folder removes only what its own deployment wrote: compare ``Stat.deployment`` with ``Storage.deployment``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

Chunks = AsyncIterable[bytes]
Source = bytes | Path | Chunks
"""What can be stored: bytes, a local file, or a stream whose length need not be known."""

BLOCK = 512 * 1024
"""Bytes per chunk read, and at least per write: a transfer holds a few of these in memory (``file.py``, ``gcs.py``)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written."""

    key: str
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal, of the content."""
    etag: str
    """Changes whenever the content does; without quotes."""
    crc32c: str = ""
    """As GCS writes it (base64 of the big-endian value); empty on file://."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of an object without reading it."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Unix time in s at which the object was stored."""
    etag: str
    """Without quotes."""
    content_type: str = "application/octet-stream"
    deployment: str = ""
    """Who wrote it; empty: nobody of ours (a file that a person placed there)."""
    sha256: str = ""
    """Lower-case hexadecimal; empty when it was not recorded (objects of others, direct uploads)."""
    metadata: Mapping[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """Objects by key. All methods may raise ``Retry`` when the storage is away and ``InvalidInput`` for a bad key."""

    deployment: str
    """The mark that is put on everything written."""

    async def put(
        self,
        key: str,
        source: Source,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> Stored:
        """Store an object, replacing any of the same key; nothing is visible until all of it is there.

        An error (or a cancellation) while ``source`` is read leaves nothing behind, and is raised on.

        Raises:
            StorageFull: there is no room.
        """
        ...

    async def upload(self, path: Path, key: str, content_type: str = "application/octet-stream") -> Stored:
        """Store a local file."""
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes ``start`` to ``end`` (exclusive; None: to the last) in chunks; close it if you leave early.

        Raises:
            NotFound: there is no such object.
        """
        ...

    async def download(self, key: str, path: Path) -> int:
        """Write the object to a local file, whole or not at all; return its bytes.

        Raises:
            NotFound: there is no such object.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Return where the object is (or would be) on this machine, read-only; None if it is elsewhere."""
        ...

    async def stat(self, key: str) -> Stat:
        """Tell of one object.

        Raises:
            NotFound: there is no such object.
        """
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Stat]:
        """Yield all objects whose key begins with ``prefix`` (any text, not only whole parts), in order of key."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove an object; return False if there was none."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove all objects whose key begins with ``prefix``; return their number.

        Raises:
            InvalidInput: the prefix is empty or does not end with a slash (it would reach its neighbours).
        """
        ...

    async def copy(self, source: str, target: str) -> Stored:
        """Make ``target`` the same as ``source``, without moving the bytes through here; the mark is ours.

        Raises:
            NotFound: there is no such object.
        """
        ...

    def url(self, key: str) -> str:
        """Return the object's address for operators and logs (file:// or gs://), good for no browser."""
        ...

    async def signed_url(self, key: str, life: timedelta, filename: str | None = None) -> str | None:
        """Return an address from which anybody may GET the object for ``life``; None where that does not exist."""
        ...

    async def sweep(self, older: timedelta) -> int:
        """Remove what killed processes left half-written longer than ``older`` ago; return how much that was.

        Of uploads that come in several pieces `shared.storage.unfinished` knows.
        """
        ...

    async def check(self) -> None:
        """Return when objects can be read and written here.

        Raises:
            Retry: not now.
            Misconfigured: never, as it is set up.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


async def read_all(chunks: AsyncIterable[bytes], limit: int | None = None) -> bytes:
    """Return all chunks as one, for small objects.

    Raises:
        ValueError: they are longer than ``limit`` bytes.
    """
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise ValueError(f"The object is larger than {limit} bytes.")
        parts.append(chunk)
    return b"".join(parts)
