"""Calls to addresses that submitters name: at a job's start, at each tenth of its progress, and at its end.

Which jobs have calls to make is kept in Redis, each with the time at which another frontend may take it over: calls go
on when a frontend dies, and may then come twice. Each carries an id, by which a receiver knows a second copy.

Nobody may use this service to reach what only it can reach: the address of a call is resolved here, once, and called
only if it is a public one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from services.frontend import metrics
from services.frontend.hub import Hub, Snapshot, is_final
from services.frontend.settings import WebhookSettings
from services.frontend.v1.views import job_event
from shared.costs import Rates
from shared.errors import InvalidInput, KioskError
from shared.jobs import JobStore
from shared.jobs.base import errors_by_meaning
from shared.jobs.keys import WEBHOOKS
from shared.jobs.model import percent
from shared.jobs.states import NEW, WORKING

log = structlog.get_logger(__name__)

#: s for which a frontend keeps a job's calls to itself, and between looks for those that nobody makes.
_TURN, _LOOK = 30.0, 5.0
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_MOST_AT_ONCE = 1_000
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Takes a job if its turn has not been renewed meanwhile.
_TAKE = """
local now = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not now or tonumber(now) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
"""


class Webhooks:
    """Checks addresses, and calls them."""

    def __init__(
        self,
        settings: WebhookSettings,
        store: JobStore,
        hub: Hub,
        *,
        priced: Rates | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Follow jobs by the hub, and tell what they cost by the rates."""
        self._rates = priced
        self._settings = settings
        self._secret = settings.secret.get_secret_value()
        self._store = store
        self._hub = hub
        self._now = now
        self._name = store.prefix + WEBHOOKS
        self._following: dict[str, asyncio.Task[None]] = {}
        self._next_at: dict[str, float] = {}

    async def check(self, url: str) -> None:
        """Refuse an address that would never be called.

        Raises:
            InvalidInput: saying why.
        """
        if not self._secret:
            raise InvalidInput("Webhooks are switched off here.", code="no-webhooks")
        parts = urlsplit(url)
        try:
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            host = ""
        if parts.scheme not in {"http", "https"} or not host or parts.username:
            raise InvalidInput("A webhook is an http or https address without a user name.", code="bad-webhook")
        try:
            await _Resolver(private=self._settings.private).resolve(host, port)
        except OSError as error:
            raise InvalidInput(f"The webhook cannot be called: {error}.", code="bad-webhook") from error

    @errors_by_meaning
    async def follow(self, job_id: str) -> None:
        """Make a job's calls from now on."""
        await self._store.redis.zadd(self._name, {job_id: f"{self._now() + _TURN:.3f}"})
        self._begin(job_id)

    async def run(self) -> None:
        """Keep one's turns, and take over what another frontend left, until cancelled."""
        try:
            while True:
                try:
                    await self._keep_turns()
                    await self._take_over()
                except KioskError as error:
                    log.warning("webhooks-delayed", error=str(error))
                await asyncio.sleep(_LOOK)
        finally:
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(*self._following.values(), return_exceptions=True)

    @errors_by_meaning
    async def _keep_turns(self) -> None:
        if self._following:
            until = f"{self._now() + _TURN:.3f}"
            await self._store.redis.zadd(self._name, dict.fromkeys(self._following, until), xx=True)

    @errors_by_meaning
    async def _take_over(self) -> None:
        room = _MOST_AT_ONCE - len(self._following)
        due = await self._store.redis.zrangebyscore(self._name, "-inf", self._now(), start=0, num=max(0, room))
        for job_id in due:
            score = await self._store.redis.zscore(self._name, job_id)
            until = f"{self._now() + _TURN:.3f}"
            if score is not None and await self._store.redis.eval(_TAKE, 1, self._name, job_id, repr(score), until):
                self._begin(job_id)

    def _begin(self, job_id: str) -> None:
        if job_id not in self._following:
            task = self._following[job_id] = asyncio.create_task(self._follow(job_id), name=f"webhook {job_id}")
            task.add_done_callback(lambda _task: self._following.pop(job_id, None))

    async def _follow(self, job_id: str) -> None:
        try:
            (url,) = await self._store.get_fields(job_id, ["webhook"])
            if url:
                await self._call_at_changes(job_id, url)
            await self._forget(job_id)
        except KioskError as error:
            # It stays in Redis: whoever looks next takes it up again.
            log.warning("webhook-delayed", job=job_id, error=str(error))

    @errors_by_meaning
    async def _forget(self, job_id: str) -> None:
        await self._store.redis.zrem(self._name, job_id)

    async def _call_at_changes(self, job_id: str, url: str) -> None:
        told = ""
        async with self._hub.subscribe([job_id]) as subscription:
            while True:
                for snapshot in (await subscription.changes()).values():
                    what = _worth_telling(snapshot)
                    if snapshot is not None and what and what != told:
                        await self._call(job_id, url, what, snapshot)
                        told = what
                    if is_final(snapshot):
                        return

    async def _call(self, job_id: str, url: str, what: str, snapshot: Snapshot) -> None:
        job = job_event(job_id, snapshot, self._rates).model_dump(mode="json")
        told = {"event": what.partition(" ")[0], "job": job}
        body = json.dumps(told).encode()
        for attempt in range(self._settings.attempts):
            await self._pace(url)
            said = await self._try(url, f"{job_id}/{what.replace(' ', '-')}", body)
            if said == "":
                metrics.webhooks.labels("delivered").inc()
                return
            log.info("webhook-failed", job=job_id, attempt=attempt + 1, error=said)
            if attempt + 1 < self._settings.attempts:
                await asyncio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2**attempt))
        metrics.webhooks.labels("failed").inc()

    async def _try(self, url: str, call_id: str, body: bytes) -> str:
        """Call once; return nothing if it was taken, else what went wrong."""
        stamp = str(int(self._now()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "CellKiosk",
            "Kiosk-Call": call_id,
            "Kiosk-Signature": f"t={stamp},v1={signature(self._secret, stamp, body)}",
        }
        connector = TCPConnector(resolver=_Resolver(private=self._settings.private), force_close=True)
        timeout = ClientTimeout(total=self._settings.timeout)
        try:
            # An address in figures is never asked of a resolver: it is checked here.
            _refuse_private(urlsplit(url).hostname or "", private=self._settings.private)
            async with (
                ClientSession(connector=connector, timeout=timeout, trust_env=False) as http,
                http.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return "" if answer.status < 300 else f"it answered {answer.status}"
        except (ClientError, OSError, TimeoutError) as error:
            return str(error.os_error if isinstance(error, ClientConnectorError) else error) or "no answer in time"

    async def _pace(self, url: str) -> None:
        """Wait until one more call to the host is within its rate."""
        host = urlsplit(url).hostname or ""  # on whatever port
        now = time.monotonic()
        at = max(now, self._next_at.get(host, 0.0))
        if len(self._next_at) > 10_000:
            self._next_at.clear()
        self._next_at[host] = at + 1 / self._settings.per_host
        await asyncio.sleep(at - now)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """Return the HMAC-SHA256 (hex) of a call: of its Unix time, a full stop, and its body."""
    return hmac.digest(secret.encode(), stamp.encode() + b"." + body, "sha256").hex()


def _worth_telling(snapshot: Snapshot | None) -> str:
    if snapshot is None or snapshot["status"] == NEW:
        return ""
    if is_final(snapshot):
        return snapshot["status"]
    tenth = percent(snapshot) // 10 * 10
    return "started" if snapshot["status"] in WORKING and tenth == 0 else f"progress {tenth}"


class _Resolver(AbstractResolver):
    """Resolves names, but to public addresses only: what was checked is what is called."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for entry in found:
            _refuse_private(str(entry["host"]), private=self._private)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _refuse_private(host: str, *, private: bool) -> None:
    """Raise OSError for an address that is not public; a name is let through, to be resolved."""
    with contextlib.suppress(ValueError):
        address = _meant(ipaddress.ip_address(host.partition("%")[0]))
        if not private and (not address.is_global or address.is_multicast):
            raise OSError(f"{host} is not a public address")


def _meant(address: _Address) -> _Address:
    """Return the IPv4 address that one of IPv6 stands for at a gateway (RFC 4291, 3056 and 6052), else itself."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return address.ipv4_mapped or address.sixtofour or translated or address
