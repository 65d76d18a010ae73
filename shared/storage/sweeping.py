"""Removing what unfinished uploads left, from any storage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.storage.protocol import Storage


async def sweep_partials(storage: Storage) -> int:
    """Remove the unfinished uploads whose life is over; return their number."""
    from shared.storage.partial import open_partials  # here: it knows the storages, which call this

    return await open_partials(storage).sweep(time.time())
