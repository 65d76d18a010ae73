"""The doctor's examinations; each returns findings and raises nothing that is not a bug."""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp

from services.console.doctor.findings import Finding, failed, ok, warning
from services.console.up import probes
from services.console.up.place import Running
from shared.errors import KioskError
from shared.jobs import JobStore
from shared.jobs.connection import AWAY, RedisError, hide_password
from shared.jobs.schema import compared
from shared.settings import StorageSettings
from shared.storage import open_storage
from shared.version import VERSION

#: Looks at models that are being loaded, and s between two.
TRIES, PAUSE = 20, 0.5
#: Seconds that clocks may differ: leases and links are told in seconds.
CLOCK = 2.0
#: Bytes that should be free where state is kept.
ROOM = 5_000_000_000
_OLDEST_REDIS = (7, 0)


async def redis(store: JobStore, running: Running) -> list[Finding]:
    """Is Redis there, fit, persistent and of our time?"""
    where = hide_password(running.redis_url)
    try:
        await store.ping()
        info: dict[str, Any] = await store.redis.info()
        server_time = await store.redis.time()
        await compared(store)
    except (KioskError, RedisError, *AWAY) as error:
        return [failed("redis", f"{where}: {error}", "Start it, or correct KIOSK_REDIS__URL.")]
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    found = [ok("redis", f"{name} {version} answers at {where}")]
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        found.append(failed("redis", f"{name} {version} is too old", "Install version 7.0 or newer."))
    apart = abs(time.time() - (server_time[0] + server_time[1] / 1e6))
    if apart > CLOCK:
        found.append(
            warning("clock", f"Redis' clock differs by {apart:.1f} s from here", "Run a time service on both.")
        )
    return found + await _redis_settings(store)


async def _redis_settings(store: JobStore) -> list[Finding]:
    wanted = {
        "maxmemory-policy": ("noeviction", "jobs would vanish when memory is short"),
        "appendonly": ("yes", "jobs would be lost when Redis ends"),
    }
    try:
        settings: Mapping[str, str] = await store.redis.config_get("*")
    except (RedisError, *AWAY):
        return [warning("redis", "its settings may not be read", "Look by hand: maxmemory-policy noeviction, AOF on.")]
    found = [
        warning("redis", f"{name} is {settings.get(name)!r}: {why}", f"CONFIG SET {name} {value}")
        for name, (value, why) in wanted.items()
        if settings.get(name) != value
    ]
    events = settings.get("notify-keyspace-events", "")
    if not {"K", "$", "h"} <= set(events.replace("A", "$lshzxet")):
        remedy = "CONFIG SET notify-keyspace-events K$h"
        found.append(warning("redis", "keyspace notifications are off: changes are seen seconds later", remedy))
    return found or [ok("redis", "keeps its data and tells of changes")]


async def storage(url: str, settings: StorageSettings) -> list[Finding]:
    """Can objects be written and read?"""
    remedy = "Check KIOSK_STORAGE__URL, and the rights of this account to create, read, list and delete objects."
    try:
        opened = open_storage(url, settings.deployment, gcs_api_root=settings.gcs_api_root)
    except KioskError as error:
        return [failed("storage", str(error), remedy)]
    try:
        await opened.check()
    except KioskError as error:
        return [failed("storage", f"{url}: {error}", remedy)]
    finally:
        await opened.aclose()
    found = [ok("storage", f"{url} can be written and read")]
    parts = urlsplit(url)
    if parts.scheme == "file":
        found += room(Path(unquote(parts.path)))
    return found


def room(folder: Path) -> list[Finding]:
    """Is there room where state is kept?"""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [failed("disk", f"{folder}: {error.strerror}", "Make the folder, or name another one.")]
    told = f"{free / 1e9:.0f} GB are free in {folder}"
    return [ok("disk", told) if free > ROOM else warning("disk", told, "Remove what is not needed, or use more disk.")]


async def models(running: Running) -> list[Finding]:
    """Do the models really predict?"""
    url = running.model_server_url
    if url.startswith("onnx://"):
        return [ok("models", "run in the workers' own processes")]
    port = running.ports.get("triton", {}).get("http")
    if port is None:
        return [warning("models", f"{url or 'the model server'} is not examined from here", "Look at its own health.")]
    from services.triton.health import Unhealthy, check_server

    server = f"http://127.0.0.1:{port}"
    try:
        names = await asyncio.to_thread(check_server, server)
    except Unhealthy as error:
        return [failed("models", str(error), "See `kiosk logs triton`.")]
    return [ok("models", f"{', '.join(names)} predict"), *await _absent(server)]


async def _absent(server: str) -> list[Finding]:
    """Which models of the repository are not loaded, and why? While the server tries again it does not say."""
    from services.triton.health import missing

    for _ in range(TRIES):
        absent = await asyncio.to_thread(missing, server)
        if all(absent.values()):
            break
        await asyncio.sleep(PAUSE)
    remedy = "Mend its folder, as docs/models.md tells; the server looks at it again by itself."
    told = {name: why or "that is still under way" for name, why in absent.items()}
    return [warning("models", f"{name} is not loaded: {why}", remedy) for name, why in told.items()]


async def frontend(url: str) -> list[Finding]:
    """Does the frontend answer, in our time?"""
    if not url:
        return [warning("frontend", "its address is not known", "Set KIOSK_URL.")]
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{url}/api/health-check") as answer:
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        told = str(error) or type(error).__name__
        return [failed("frontend", f"{url} does not answer: {told}", "Start it, or correct KIOSK_URL.")]
    if body != {"message": "OK"}:
        return [failed("frontend", f"{url} is something else than CellKiosk", "Correct KIOSK_URL.")]
    found = [ok("frontend", f"answers at {url}")]
    if date := answer.headers.get("Date"):
        apart = abs(time.time() - parsedate_to_datetime(date).timestamp())
        if apart > CLOCK:
            found.append(
                warning("clock", f"the frontend's clock differs by {apart:.0f} s", "Run a time service on both.")
            )
    return found


async def services(running: Running) -> list[Finding]:
    """Are the other parts ready?"""
    found = []
    for name, ports in running.ports.items():
        if "health" in ports:
            problem = await probes.http(ports["health"])()
            remedy = f"See `kiosk logs {name}`."
            found.append(failed(name, problem, remedy) if problem else ok(name, "is ready"))
    return found


async def workers(store: JobStore) -> list[Finding]:
    """Is somebody there to do the work, in our version?"""
    try:
        there = [worker for worker in await store.workers() if worker.alive]
        kinds = sorted({*await store.types(), *await store.kinds()})
        waiting = await store.queues(kinds)
    except (KioskError, *AWAY) as error:
        return [failed("workers", str(error), "Mend Redis first.")]
    served = {kind for worker in there for kind in worker.types}
    found = [
        failed(
            "workers", f"{queue.waiting} jobs of {name!r} wait and no worker serves them", "Start a consumer for it."
        )
        for name, queue in waiting.items()
        if queue.waiting and name not in served
    ]
    others = sorted({worker.facts.get("version", "") for worker in there} - {VERSION, ""})
    if others:
        remedy = "During an upgrade this is as it should be; else replace them."
        found.append(warning("workers", f"some are of version {', '.join(others)}, not {VERSION}", remedy))
    if not there and not found:
        return [
            warning("workers", "there are none", "They come with the first job where the autoscaler scales from 0.")
        ]
    return found or [ok("workers", f"{len(there)} of version {VERSION}")]


def machine() -> list[Finding]:
    """Say what the command itself runs on."""
    return [ok("python", f"Python {platform.python_version()}, CellKiosk {VERSION}")]
