"""Uploads that clients send straight to a bucket; kept apart from the objects until confirmed.

    <prefix>.kiosk/direct/<id>/about    JSON of ``Direct``
    <prefix>.kiosk/direct/<id>/data     what the client put there

The bytes go to a signed address in one request, or to a session of the bucket in pieces. Either is good for a while, so
its holder may put other bytes there at any time, also after they were looked at. So the object is made by a copy within
the bucket, which moves no bytes, of just the generation that was looked at.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from shared.errors import NotFound
from shared.storage.gcs import GcsStorage
from shared.storage.names import OWN
from shared.storage.offload import off_loop
from shared.storage.partial import checked_id, unknown
from shared.storage.protocol import Stat, Storage, Stored, read_all
from shared.storage.signing import signed

_DATA = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Direct:
    """What was said when the upload began."""

    id: str
    """32 hexadecimal digits."""
    owner: str
    name: str
    """Of the file, for people."""
    size: int
    """Bytes that will come."""
    key: str = ""
    """Of the file that it became; empty until then, as the following."""
    sha256: str = ""
    """Lower-case hexadecimal; also empty where it was not worked out."""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a client PUTs its bytes, and the headers that it must send with them."""

    url: str
    headers: Mapping[str, str]


class Directs:
    """Direct uploads to one bucket. All methods may raise ``Retry``."""

    def __init__(self, storage: GcsStorage) -> None:
        """Keep them beside the objects of a storage."""
        self._storage = storage
        self._own = GcsStorage(storage.to, f"{storage.prefix}{OWN}/direct/", storage.deployment)

    async def address(self, direct: Direct, life: timedelta) -> Address | None:
        """Return where an upload's bytes are to be put; None where nobody can sign addresses."""
        headers = {"Content-Type": _DATA, "x-goog-content-length-range": f"{direct.size},{direct.size}"}
        url = await signed(self._own.to, self._own.prefix + _data(direct), life, put=headers)
        return Address(url, headers) if url else None

    async def session(self, direct: Direct) -> Address:
        """Return where an upload's bytes are to be put in pieces, as the bucket's resumable uploads have it."""
        return Address(await self._own.session(_data(direct), direct.size), {"Content-Type": _DATA})

    async def create(self, direct: Direct) -> None:
        """Begin an upload: from now on it can be found."""
        await self._write(direct)

    async def find(self, upload: str) -> Direct:
        """Return what was said when an upload began, and what it became.

        Raises:
            NotFound: there is none of this id.
        """
        try:
            return Direct(**json.loads(await read_all(self._own.get(f"{checked_id(upload)}/about"))))
        except NotFound as error:
            raise unknown(upload) from error

    async def arrived(self, direct: Direct) -> Stat | None:
        """Tell of what lies at the address just now; None: nothing."""
        try:
            return await self._own.stat(_data(direct))
        except NotFound:
            return None

    async def head(self, direct: Direct, seen: Stat, length: int) -> bytes:
        """Return the first bytes of what was seen there.

        Raises:
            NotFound: other bytes lie there by now.
        """
        return await read_all(self._own.get(_data(direct), 0, length, seen.etag))

    async def sha256(self, direct: Direct, seen: Stat) -> str:
        """Return the SHA-256 of what was seen there: all of it is read once; raises as ``head`` does."""
        digest = hashlib.sha256()
        async for chunk in self._own.get(_data(direct), generation=seen.etag):
            await off_loop(digest.update, chunk)
        return digest.hexdigest()

    async def take(
        self, direct: Direct, seen: Stat, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> Stored:
        """Make what was seen an object; may be called again after a crash; raises as ``head`` does."""
        own = dataclasses.replace(seen, key=f"{OWN}/direct/{_data(direct)}")
        return await self._storage.take(own, key, content_type, metadata)

    async def finish(self, made: Direct) -> None:
        """Write down what an upload became, and remove the bytes that it left here."""
        await self._write(made)
        await self._own.delete(_data(made))

    async def remove(self, direct: Direct) -> None:
        """Forget an upload and its bytes."""
        await self._own.delete_prefix(f"{direct.id}/")

    async def sweep(self, before: float) -> int:
        """Remove the uploads at which nothing has happened since a Unix time in s; return their number."""
        changed: dict[str, float] = {}
        async for found in self._own.list():
            upload = found.key.partition("/")[0]
            changed[upload] = max(found.modified, changed.get(upload, 0.0))
        over = [upload for upload, last in changed.items() if last < before]
        for upload in over:
            await self._own.delete_prefix(f"{upload}/")
        return len(over)

    async def _write(self, direct: Direct) -> None:
        await self._own.put(f"{direct.id}/about", json.dumps(dataclasses.asdict(direct)).encode(), "application/json")


def open_directs(storage: Storage) -> Directs | None:
    """Return the direct uploads of a storage; None where there are none: a folder has no addresses."""
    return Directs(storage) if isinstance(storage, GcsStorage) else None


def _data(direct: Direct) -> str:
    return f"{direct.id}/data"
