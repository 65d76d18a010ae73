"""Equal files of one owner are stored once, however they came."""

from __future__ import annotations

import structlog

from services.frontend import metrics, sniff
from shared.errors import NotFound, Retry
from shared.jobs import JobStore
from shared.storage import Storage, Stored

log = structlog.get_logger(__name__)


class Sharing:
    """Lets a new upload share the object of an earlier one with the same bytes.

    The upload keeps a name of its own, which the store knows to be another name of that object. Bytes are removed only
    after that is written and the older object was seen: a crash in between costs room for a while, never a file.
    """

    def __init__(self, store: JobStore, storage: Storage) -> None:
        """Share the objects of a storage, as a store knows them."""
        self._store = store
        self._storage = storage

    async def settle(self, stored: Stored, name: str, owner: str) -> None:
        """Record an upload that was just stored, and remove its bytes if the owner had them already.

        One without a SHA-256 stands for itself.
        """
        duplicate = False
        try:
            duplicate = bool(stored.sha256) and await self._shared(stored, name, owner)
            if duplicate:
                await self._storage.delete(stored.key)
        except Retry as error:
            log.warning("file-not-shared", key=stored.key, error=str(error))  # it stands for itself
        metrics.uploads.labels("duplicate" if duplicate else "stored").inc()
        log.info("file-stored", key=stored.key, size=stored.size, owner=owner, duplicate=duplicate)

    async def _shared(self, stored: Stored, name: str, owner: str) -> bool:
        missing = ""
        while True:
            ending = sniff.ending_of(stored.key)
            found = await self._store.share(owner, stored.sha256, ending, stored.key, name, missing=missing)
            if found == stored.key:
                return False
            if await self._holds(found, stored):
                return True
            missing = found

    async def _holds(self, key: str, stored: Stored) -> bool:
        """Whether an object is there: somebody may have removed it by hand, or put another in its place."""
        try:
            found = await self._storage.stat(key)
        except NotFound:
            return False
        return found.sha256 == stored.sha256 and found.size == stored.size
