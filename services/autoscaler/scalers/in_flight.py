"""Which replicas of a model server are at work: asked of Triton's own metrics page on each pod.

Triton counts requests that wait (``nv_inference_pending_request_count``) and requests that ended; one that is being
computed shows in neither, so a replica counts as idle only when two looks apart show nothing waiting and no request
ended in between. A replica that does not answer counts as busy.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import aiohttp

_PENDING = re.compile(r"^nv_inference_pending_request_count(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)
_ENDED = re.compile(r"^nv_inference_request_(?:success|failure)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)
_TIMEOUT = aiohttp.ClientTimeout(total=1.0)


class InFlight:
    """Remembers what each replica told at the last look."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._session: aiohttp.ClientSession | None = None
        self._ended: dict[str, float] = {}

    async def busy(self, port: int, addresses: Mapping[str, str]) -> frozenset[str]:
        """Return the names of the replicas that are, or may be, at work."""
        self._session = self._session or aiohttp.ClientSession(timeout=_TIMEOUT)
        looks = await asyncio.gather(*(self._is_busy(name, ip, port) for name, ip in addresses.items()))
        self._ended = {name: count for name, count in self._ended.items() if name in addresses}
        return frozenset(name for name, busy in zip(addresses, looks, strict=True) if busy)

    async def _is_busy(self, name: str, ip: str, port: int) -> bool:
        if not ip:
            return False  # not started: it has nothing
        assert self._session is not None
        host = f"[{ip}]" if ":" in ip else ip
        try:
            async with self._session.get(f"http://{host}:{port}/metrics") as response:
                response.raise_for_status()
                text = await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError):
            self._ended.pop(name, None)
            return True
        pending = sum(map(float, _PENDING.findall(text)))
        ended = sum(map(float, _ENDED.findall(text)))
        before = self._ended.get(name)
        self._ended[name] = ended
        return pending > 0 or before != ended

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
