"""Uploads that arrive in several goes: kept beside the objects until they are complete, by any process.

All state is in the storage itself and none in the process, so that an upload goes on after a restart, and through
another frontend. How much has arrived is the length of what is stored, never a number that could differ from it. Two
requests may append to one upload at once (the older one of a connection that died unnoticed): the second is refused.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.errors import InvalidInput, NotFound
from shared.storage.protocol import Chunks, Stored

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Partial:
    """What was said when the upload began."""

    id: str
    """32 hexadecimal digits."""
    length: int
    """Bytes of the whole file."""
    owner: str
    metadata: str
    """As the client wrote it."""
    life: float
    """s after the last byte until the upload may be removed."""
    piece: bool = False
    """Whether it is only to be joined with others to one file."""
    parts: tuple[str, ...] = ()
    """The uploads that this one was joined from."""
    key: str = ""
    """Of the object that it became; empty until then."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has come."""

    offset: int
    """Bytes that are stored."""
    changed: float
    """Unix time in s of the last byte."""


class Partials(Protocol):
    """Unfinished uploads of one storage. All methods may raise ``Retry``, and ``NotFound`` for an unknown id."""

    async def create(self, partial: Partial) -> None:
        """Begin an upload.

        Raises:
            StorageFull: there is no room.
        """
        ...

    async def find(self, upload: str) -> Partial:
        """Return what was said when the upload began, and what it became."""
        ...

    async def progress(self, partial: Partial) -> Progress:
        """Tell how far it has come; a finished one is at its end."""
        ...

    async def append(self, partial: Partial, offset: int, chunks: Chunks) -> int:
        """Store bytes from ``offset`` on as they come; return the new offset. Bytes stay if ``chunks`` raises.

        Raises:
            InvalidInput: with the code ``conflict``: the upload is not at this offset.
            StorageFull: there is no room.
        """
        ...

    async def append_if(self, partial: Partial, offset: int, chunks: Chunks, algorithm: str, digest: bytes) -> int:
        """As ``append``, but all of it or nothing: only if its digest is the one given.

        Raises:
            InvalidInput: with the code ``checksum-mismatch``: it is not.
        """
        ...

    async def head(self, partial: Partial, length: int) -> bytes:
        """Return the first bytes, fewer if fewer have arrived; also of what is an object since."""
        ...

    async def join(self, parts: Sequence[Partial], whole: Partial) -> None:
        """Begin ``whole`` with the bytes of ``parts``, one after another; they stay as they are."""
        ...

    async def finish(self, partial: Partial, key: str, content_type: str, metadata: Mapping[str, str]) -> Stored:
        """Make the complete upload an object; may be called again after a crash in the middle of it."""
        ...

    async def remove(self, upload: str) -> bool:
        """Forget an upload and its bytes (not the object that it became); return False if there was none."""
        ...

    async def sweep(self, now: float) -> int:
        """Remove the uploads whose life is over; return their number."""
        ...


def checked_id(upload: str) -> str:
    """Return the id, if it can be one.

    Raises:
        NotFound: it cannot.
    """
    if not _ID.fullmatch(upload):
        raise unknown(upload)
    return upload


def unknown(upload: str) -> NotFound:
    """Return the error for an id that nobody knows."""
    return NotFound(f"There is no upload {upload[:40]!r}: begin a new one.", code="no-such-upload")


def conflict(offset: int, actual: int) -> InvalidInput:
    """Return the error for bytes that do not follow the last ones."""
    return InvalidInput(f"The upload is at offset {actual}, not {offset}: go on from there.", code="conflict")


def mismatch(algorithm: str) -> InvalidInput:
    """Return the error for bytes that changed on the way."""
    return InvalidInput(
        f"The bytes do not match their {algorithm} checksum: send them again.", code="checksum-mismatch"
    )


def written(partial: Partial) -> bytes:
    """Return the JSON of what was said."""
    return json.dumps(dataclasses.asdict(partial)).encode()


def read(data: bytes) -> Partial:
    """Return what was said from its JSON."""
    raw = json.loads(data)
    return Partial(**{**raw, "parts": tuple(raw["parts"])})
