"""Uploads that are not complete yet, of any storage: where they are kept, and the removal of what they left."""

from __future__ import annotations

import time
from datetime import timedelta

from shared.storage.direct import open_directs
from shared.storage.file import FileStorage
from shared.storage.gcs import GcsStorage
from shared.storage.partial import Partials
from shared.storage.partial_file import FilePartials
from shared.storage.partial_gcs import GcsPartials
from shared.storage.protocol import Storage


def open_partials(storage: Storage) -> Partials:
    """Return the unfinished uploads of a storage."""
    if isinstance(storage, FileStorage):
        return FilePartials(storage)
    if isinstance(storage, GcsStorage):
        return GcsPartials(storage)
    raise TypeError(f"{type(storage).__name__} keeps no unfinished uploads.")


async def sweep_unfinished(storage: Storage, older: timedelta) -> int:
    """Remove what interrupted writing left; return the number of things removed.

    Of resumable uploads those whose life is over; of all others what was begun longer ago than ``older``.
    """
    removed = await storage.sweep(older)
    if directs := open_directs(storage):
        removed += await directs.sweep(time.time() - older.total_seconds())
    return removed + await open_partials(storage).sweep(time.time())
