"""Files that clients send straight to the bucket: begun here, and looked at here once they are there."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from services.frontend import metrics, sniff
from services.frontend.settings import UploadSettings
from services.frontend.uploads import UPLOADS, Upload, stored_ending
from shared.errors import InvalidInput, NotFound
from shared.storage import Storage
from shared.storage.direct import Address, Direct, Directs, open_directs

log = structlog.get_logger(__name__)


class DirectUploads:
    """Direct uploads of one frontend."""

    def __init__(self, settings: UploadSettings, storage: Storage) -> None:
        """Use a storage, if it is a bucket."""
        self._settings = settings
        self._storage = storage
        self._directs = open_directs(storage)

    async def begin(
        self, name: str, size: int, owner: str, spend: Callable[[str, int], Awaitable[None]]
    ) -> tuple[Direct, Address]:
        """Return a new upload and where its bytes are to be put.

        Args:
            name: of the file.
            size: bytes of the file.
            owner: whose it will be.
            spend: counts bytes of an owner's; what it raises leaves nothing behind.

        Raises:
            InvalidInput: the file is larger than allowed.
            NotFound: there are no direct uploads here.
        """
        if size > self._settings.max_bytes:
            raise InvalidInput(
                f"The file {name!r} is larger than the {self._settings.max_bytes:,} bytes allowed.", code="too-large"
            )
        direct = Direct(secrets.token_hex(16), owner, sniff.base_name(name), size)
        life = timedelta(seconds=self._settings.direct_seconds)
        address = await self._directs.address(direct, life) if self._directs else None
        if self._directs is None or address is None:
            raise _not_here()
        await spend(owner, size)
        await self._directs.create(direct)
        log.info("direct-upload-begun", upload=direct.id, bytes=size, owner=owner)
        return direct, address

    async def confirm(self, upload: str, owner: str) -> Upload:
        """Make what has arrived a file of the owner's; what is no image is removed. Doing it again changes nothing.

        Raises:
            InvalidInput: nothing has arrived, or it is not what was announced, or no image.
            NotFound: there is no such upload.
        """
        if self._directs is None:
            raise _not_here()
        direct = await self._of(self._directs, upload, owner)
        if direct.key:
            return await self._file(direct)
        try:
            return await self._made(self._directs, direct)
        except InvalidInput as error:
            if not isinstance(error, NotFound) and error.code != "conflict":
                raise
            direct = await self._of(self._directs, upload, owner)
            if not direct.key:
                raise
            return await self._file(direct)  # another request was quicker, and took the bytes

    async def _of(self, directs: Directs, upload: str, owner: str) -> Direct:
        direct = await directs.find(upload)
        if direct.owner != owner:
            raise NotFound(f"There is no upload {upload!r}: begin a new one.", code="no-such-upload")
        return direct

    async def _file(self, direct: Direct) -> Upload:
        found = await self._storage.stat(direct.key)
        return Upload(direct.key, direct.name, found.size, found.sha256, found.content_type)

    async def _made(self, directs: Directs, direct: Direct) -> Upload:
        seen = await directs.arrived(direct)
        if seen is None:
            raise InvalidInput("Nothing has arrived at the address yet: PUT the file there first.", code="conflict")
        try:
            if seen.size != direct.size:
                raise InvalidInput(
                    f"{seen.size:,} bytes have arrived; {direct.size:,} were announced. Begin again.", code="wrong-size"
                )
            kind = sniff.checked(direct.name, await directs.head(direct, sniff.HEAD))
        except NotFound:
            raise  # what was there is there no more: no reason to forget what became of it
        except InvalidInput:
            metrics.uploads.labels("refused").inc()
            await directs.remove(direct)
            raise
        key = f"{UPLOADS}{direct.id}{stored_ending(direct.name, kind)}"
        about = {"owner": direct.owner, "name": direct.name}
        stored = await directs.finish(direct, seen, key, kind.media_type, about)
        metrics.uploads.labels("stored").inc()
        log.info("file-stored", key=key, size=stored.size, owner=direct.owner, direct=True)
        return Upload(key, direct.name, stored.size, stored.sha256, kind.media_type)


def _not_here() -> NotFound:
    return NotFound(
        "There are no direct uploads here: they need a storage in a bucket (gs://) and an account that can sign. "
        "Send the file to /api/v1/files, or by tus to /api/v1/uploads.",
        code="no-direct-uploads",
    )
