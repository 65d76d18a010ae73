"""The local stack by the chart's own manifests, under load, with a real Prometheus looking at it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
from aiohttp import web
from redis.asyncio import Redis

from services.triton.environment import Environment
from tests.fixtures.helm import CHART, ROOT, pod_specs, rendered
from tests.fixtures.redis import RedisServer
from tests.integration.chart.container import Container

NAME = "kiosk-cellkiosk"
#: Short leases, so that a test need not wait long for what a frozen worker held.
SHORT = {"KIOSK_WORK__LEASE": "3", "KIOSK_WORK__RENEW": "1", "KIOSK_LEASE": "1", "KIOSK_REDIS__RECONCILE": "1"}
#: One target grows with the load; the other has spent its day's money at once. Their "workers" only sleep.
TARGETS = [
    {"name": "worker", "min_replicas": 1, "max_replicas": 2, "jobs_per_replica": 1, "price_per_hour": 0.1},
    {
        "name": "dear",
        "min_replicas": 1,
        "max_replicas": 2,
        "price_per_hour": 1e6,
        "budget": {"money_per_day": 0.01},
        "queues": {"segmentation": 1},
        "jobs_per_replica": 0.01,
    },
]
AUTOSCALER = {
    "KIOSK_SCALER": "local",
    "KIOSK_LOCAL__COMMAND": '["sleep", "600"]',
    "KIOSK_TARGETS": json.dumps(TARGETS),
}


def manifest(service: str) -> dict[str, Any]:
    spec = next(spec for name, spec in pod_specs(rendered("kind")).items() if f"/{NAME}-{service}" in name)
    container: dict[str, Any] = spec["containers"][0]
    return container


def label_script() -> ModuleType:
    """The chart's own `helm test`, for its picture."""
    spec = importlib.util.spec_from_file_location("label", CHART / "files" / "label.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Stack:
    """The running parts."""

    parts: dict[str, Container]
    redis: RedisServer
    scraped: dict[str, list[str]]
    job_ids: list[str] = field(default_factory=list)
    uploaded: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.parts['frontend'].ports[8080]}"

    async def upload(self) -> None:
        form = aiohttp.FormData()
        form.add_field("file", label_script().picture(64), filename="cells.png")
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/api/upload", data=form) as answer:
            assert answer.status == 200, await answer.text()
            self.uploaded = (await answer.json())["uploadedName"]

    async def submit(self, http: aiohttp.ClientSession) -> int:
        """Submit one job; return the status of the answer."""
        body = {"jobType": "segmentation", "imageName": "cells.png", "uploadedName": self.uploaded}
        async with http.post(f"{self.url}/api/predict", json=body) as answer:
            if answer.status == 200:
                self.job_ids.append((await answer.json())["hash"])
            return answer.status

    async def load(self, every: float) -> None:
        """Submit for ever, look at results now and then, and keep an event stream open."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            number = 0
            while True:
                number += 1
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await self.submit(http)
                    if number % 10 == 0 and len(self.job_ids) > 5:
                        await self._look(http, self.job_ids[-5])
                await pause(every)

    async def _look(self, http: aiohttp.ClientSession, job_id: str) -> None:
        async with http.post(f"{self.url}/api/redis", json={"hash": job_id, "key": "output_url"}) as answer:
            place = (await answer.json()).get("value")
        if place:
            async with http.get(self.url + place[place.index("/results/") :]) as answer:
                await answer.read()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1), http.get(f"{self.url}/api/v1/jobs/{self.job_ids[-1]}/events") as answer:
                async for _ in answer.content:
                    pass


async def pause(seconds: float) -> None:
    """Let time pass at the pace of the load; nothing is awaited by it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def stand_ins(redis: RedisServer) -> AsyncIterator[str]:
    """Say what Redis' exporter and DCGM's would names: the first of the real Redis, the second made up."""

    async def metrics(_request: web.Request) -> web.Response:
        client = Redis.from_url(redis.url)
        up, info = 1, {}
        try:
            info = await client.info()
        except Exception:
            up = 0
        finally:
            await client.aclose()
        lines = [f"redis_up {up}"]
        if info:
            told = {
                "memory_used_bytes": "used_memory",
                "memory_max_bytes": "maxmemory",
                "commands_processed_total": "total_commands_processed",
                "connected_clients": "connected_clients",
                "aof_current_size_bytes": "aof_current_size",
            }
            lines += [f"redis_{name} {info.get(field_, 0)}" for name, field_ in told.items()]
        for name in ("GPU_UTIL", "FB_USED", "GPU_TEMP", "POWER_USAGE"):
            lines.append(f'DCGM_FI_DEV_{name}{{gpu="0"}} 42')
        return web.Response(text="\n".join(lines) + "\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running_stack(
    folder: Path, redis: RedisServer, triton: Environment, extra: dict[str, str] | None = None
) -> AsyncIterator[Stack]:
    """Start every part, wait until all are ready, and stop them at the end of the block."""
    (folder / "storage").mkdir()
    places = {
        f"redis://:@{NAME}-redis.lab.svc:6379/0": redis.url,  # no password here
        "file:///data": f"file://{folder / 'storage'}",
        "/scratch": str(folder / "scratch"),
        "/app/": f"{ROOT}/",
    }
    server = Container(manifest("triton"), folder, places, {"KIOSK_TRITON_VENV": str(triton.folder)})
    places[f"{NAME}-triton.lab.svc:8001"] = f"127.0.0.1:{server.ports[8001]}"
    own = SHORT | (extra or {})
    parts = {
        "triton": server,
        "frontend": Container(manifest("frontend"), folder, places, own),
        "consumer": Container(manifest("consumer-all"), folder, places, own),
        "janitor": Container(manifest("janitor"), folder, places, own),
        "autoscaler": Container(manifest("autoscaler"), folder, places, own | AUTOSCALER),
    }
    async with stand_ins(redis) as exporter:
        scraped = {f"cellkiosk-{name}": [f"127.0.0.1:{_metrics_port(part)}"] for name, part in parts.items()}
        scraped["cellkiosk-redis"] = [exporter]
        try:
            for part in parts.values():
                part.start()
            for part in parts.values():
                await part.until("startupProbe", 120)
            for name, part in parts.items():
                if name != "autoscaler":  # its workers only sleep, and so are never ready
                    await part.until("readinessProbe", 120)
            stack = Stack(parts, redis, scraped)
            await stack.upload()
            yield stack
        finally:
            for part in reversed(parts.values()):
                await part.stop()


def _metrics_port(part: Container) -> int:
    return part.ports[8002 if 8002 in part.ports else 9090]


def has_a_number(result: list[dict[str, Any]]) -> bool:
    """Whether a query's answer holds anything that can be drawn."""
    return any(not math.isnan(float(series["value"][1])) for series in result)
