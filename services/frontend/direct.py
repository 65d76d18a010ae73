"""Files that clients send straight to the bucket: begun here, and looked at here once they are there."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from services.frontend import metrics, sniff
from services.frontend.settings import UploadSettings
from services.frontend.uploads import UPLOADS, Upload, stored_ending
from shared.errors import InvalidInput, NotFound
from shared.storage import Storage, Stored
from shared.storage.direct import Address, Direct, Directs, open_directs

log = structlog.get_logger(__name__)

Settle = Callable[[Stored, str, str], Awaitable[None]]


class DirectUploads:
    """Direct uploads of one frontend."""

    def __init__(self, settings: UploadSettings, storage: Storage, settle: Settle) -> None:
        """Use a storage, if it is a bucket; ``settle`` is told of each new file, with its name and its owner."""
        self._settings = settings
        self._settle = settle
        self._directs = open_directs(storage)

    async def begin(
        self, name: str, size: int, owner: str, spend: Callable[[str, int], Awaitable[None]], *, resumable: bool
    ) -> tuple[Direct, Address]:
        """Return a new upload and where its bytes are to be put.

        Args:
            name: of the file.
            size: bytes of the file.
            owner: whose it will be.
            spend: counts bytes of an owner's; what it raises leaves nothing behind.
            resumable: in pieces, to a session of the bucket; else in one request, to a signed address.

        Raises:
            InvalidInput: the file is larger than allowed.
            NotFound: there are no direct uploads here.
        """
        if size > self._settings.max_bytes:
            raise InvalidInput(
                f"The file {name!r} is larger than the {self._settings.max_bytes:,} bytes allowed.", code="too-large"
            )
        direct = Direct(secrets.token_hex(16), owner, sniff.base_name(name), size)
        if self._directs is None:
            raise _not_here()
        address = await self._address(self._directs, direct, resumable=resumable)
        await spend(owner, size)
        await self._directs.create(direct)
        log.info("direct-upload-begun", upload=direct.id, bytes=size, owner=owner)
        return direct, address

    def life(self, *, resumable: bool) -> timedelta:
        """Return the time in which the bytes may come: to a session, until the janitor sweeps what nobody confirmed."""
        return timedelta(days=1) if resumable else timedelta(seconds=self._settings.direct_seconds)

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
            return _file(direct)
        try:
            return _file(await self._made(self._directs, direct))
        except InvalidInput as error:
            if not isinstance(error, NotFound) and error.code != "conflict":
                raise
            direct = await self._of(self._directs, upload, owner)
            if not direct.key:
                raise
            return _file(direct)  # another request was quicker, and took the bytes

    async def _address(self, directs: Directs, direct: Direct, *, resumable: bool) -> Address:
        if resumable:
            return await directs.session(direct)
        address = await directs.address(direct, self.life(resumable=False))
        if address is None:
            raise _not_here()
        return address

    async def _of(self, directs: Directs, upload: str, owner: str) -> Direct:
        direct = await directs.find(upload)
        if direct.owner != owner:
            raise NotFound(f"There is no upload {upload!r}: begin a new one.", code="no-such-upload")
        return direct

    async def _made(self, directs: Directs, direct: Direct) -> Direct:
        seen = await directs.arrived(direct)
        if seen is None:
            raise InvalidInput("Nothing has arrived at the address yet: PUT the file there first.", code="conflict")
        try:
            if seen.size != direct.size:
                raise InvalidInput(
                    f"{seen.size:,} bytes have arrived; {direct.size:,} were announced. Begin again.", code="wrong-size"
                )
            kind = sniff.checked(direct.name, await directs.head(direct, seen, sniff.HEAD))
        except NotFound:
            raise  # what was there is there no more: no reason to forget what became of it
        except InvalidInput:
            metrics.uploads.labels("refused").inc()
            await directs.remove(direct)
            raise
        if direct.size <= self._settings.direct_digest_bytes:
            seen = dataclasses.replace(seen, sha256=await directs.sha256(direct, seen))
        key = f"{UPLOADS}{direct.id}{stored_ending(direct.name, kind)}"
        about = {"owner": direct.owner, "name": direct.name}
        stored = await directs.take(direct, seen, key, kind.media_type, about)
        # Before it is written down, so that a confirmation that was cut short here is made up for by the next one.
        await self._settle(stored, direct.name, direct.owner)
        made = dataclasses.replace(direct, key=key, sha256=stored.sha256, media_type=kind.media_type)
        await directs.finish(made)
        return made


def _file(made: Direct) -> Upload:
    return Upload(made.key, made.name, made.size, made.sha256, made.media_type)


def _not_here() -> NotFound:
    return NotFound(
        "There are no direct uploads here: they need a storage in a bucket (gs://) and an account that can sign. "
        "Send the file to /api/v1/files, or by tus to /api/v1/uploads.",
        code="no-direct-uploads",
    )
