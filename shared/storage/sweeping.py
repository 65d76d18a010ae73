"""Removing what unfinished uploads left, from any storage."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.protocol import Storage


async def sweep_unfinished(storage: Storage, older: timedelta) -> int:
    """Remove resumable uploads whose life is over, and direct ones begun longer ago; return their number."""
    from shared.storage.direct import open_directs  # here: they know the storages, which call this
    from shared.storage.partial import open_partials

    directs = open_directs(storage)
    removed = await directs.sweep(time.time() - older.total_seconds()) if directs else 0
    return removed + await open_partials(storage).sweep(time.time())
