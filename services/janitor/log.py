"""Has Redis write its append-only log anew after each of its starts.

A server that is killed while it writes may leave half a script at the end of its log. Some, Redis 7.0 among them, take
the half for the beginning of what they write next: at the start after that, what was answered meanwhile is lost, or
half of a script has happened. A log that was written anew has no such half.
"""

from __future__ import annotations

import structlog

from shared.jobs import JobStore

log = structlog.get_logger(__name__)

#: Seconds for which the other janitors know that it was done.
_KNOWN = 3600.0


class Log:
    """The keeper of the log."""

    def __init__(self, store: JobStore, name: str) -> None:
        """Keep the log of a store's server."""
        self._store, self._name = store, name
        self._life = ""

    async def round(self) -> float | None:
        """Look whether the server was started again; nothing is due at a known time."""
        life = await self._store.life()
        if life not in ("", self._life) and await self._store.take_turn(f"log-{life}", self._name, _KNOWN):
            refusal = await self._store.rewrite_log()
            if refusal:
                log.info("log-not-rewritten", error=refusal)
        self._life = life
        return None
