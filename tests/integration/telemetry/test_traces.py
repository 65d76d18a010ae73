"""Spans of a real job, received by a real OTLP collector, form one connected trace from the request to the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import rotel
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from shared.jobs import open_store
from tests.fixtures.helm import ROOT
from tests.fixtures.redis import RedisServer, free_port
from tests.integration.chart.container import Container
from tests.integration.telemetry.stack import NAME, label_script, manifest, pause

pytestmark = pytest.mark.timeout(180)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    service: str


@dataclass
class Receiver:
    """Where the collector sends what it got."""

    spans: list[Span] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for resource in message.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for each in scope.spans:
                    ids = (each.trace_id.hex(), each.span_id.hex(), each.parent_span_id.hex())
                    self.spans.append(Span(*ids, each.name, attributes["service.name"]))
        self.arrived.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def until(self, names: set[str], trace: str) -> list[Span]:
        async with asyncio.timeout(60):
            while True:
                mine = [each for each in self.spans if each.trace == trace]
                if {each.name for each in mine} >= names:
                    return mine
                await self.arrived.wait()
                self.arrived.clear()


@contextlib.asynccontextmanager
async def collector(folder: Path) -> AsyncIterator[tuple[str, Receiver]]:
    """rotel, which takes spans from the services and hands them to a receiver of the test's own."""
    binary = Path(rotel.__file__).with_name("rotel-agent")
    tried = await asyncio.to_thread(subprocess.run, [binary, "--version"], capture_output=True, text=True)
    if tried.returncode:  # 127: it is linked to libpython, which Debian keeps in a package of its own
        pytest.skip(f"The collector does not run here: {tried.stderr.strip()}")
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", receiver.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = free_port(), free_port()
    words = [f"--otlp-http-endpoint=127.0.0.1:{ports[0]}", f"--otlp-grpc-endpoint=127.0.0.1:{ports[1]}"]
    words += ["--exporter=otlp", "--otlp-exporter-protocol=http", "--otlp-exporter-compression=none"]
    words += [f"--otlp-exporter-endpoint=http://127.0.0.1:{runner.addresses[0][1]}", "--batch-timeout=100ms"]
    words += [f"--pid-file={folder}/rotel.pid"]
    with (folder / "rotel.log").open("wb") as log:
        process = subprocess.Popen([binary, "start", *words], stdout=log, stderr=log)
    try:
        await _listening(ports[0], process, folder / "rotel.log")
        yield f"http://127.0.0.1:{ports[0]}", receiver
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        await runner.cleanup()


async def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await pause(0.05)


@contextlib.asynccontextmanager
async def running(folder: Path, redis: RedisServer, endpoint: str, ratio: str = "1") -> AsyncIterator[list[Container]]:
    """A frontend and a consumer by the chart, with the models in process."""
    (folder / "storage").mkdir()
    places = {
        f"redis://:@{NAME}-redis.lab.svc:6379/0": redis.url,  # no password here
        "file:///data": f"file://{folder / 'storage'}",
        "/scratch": str(folder / "scratch"),
    }
    extra = {
        "KIOSK_TELEMETRY__OTLP_ENDPOINT": endpoint,
        "KIOSK_TELEMETRY__TRACE_RATIO": ratio,
        "KIOSK_TELEMETRY__LOG_LEVEL": "debug",
        "KIOSK_MODEL_SERVER__URL": f"onnx://{ROOT / 'services' / 'triton' / 'models'}",
    }
    parts = [Container(manifest(name), folder, places, extra) for name in ("frontend", "consumer-all")]
    try:
        for part in parts:
            part.start()
        for part in parts:
            await part.until("readinessProbe", 90)
        yield parts
    finally:
        for part in parts:
            await part.stop()


async def submit(url: str, headers: dict[str, str]) -> tuple[str, str]:
    """Upload and submit in two requests of one caller's trace; return the job and the trace id that was told."""
    async with aiohttp.ClientSession(url, headers=headers) as http:
        form = aiohttp.FormData()
        form.add_field("file", label_script().picture(64), filename="cells.png")
        async with http.post("/api/upload", data=form) as answer:
            name = (await answer.json())["uploadedName"]
        body = {"jobType": "segmentation", "imageName": "cells.png", "uploadedName": name}
        async with asyncio.timeout(60):
            job = ""
            while not job:  # until the consumer has told its job types
                async with http.post("/api/predict", json=body) as answer:
                    told = answer.headers["X-Trace-Id"]
                    job = (await answer.json()).get("hash", "")
            while True:
                async with http.post("/api/redis", json={"hash": job, "key": "status"}) as answer:
                    status = (await answer.json())["value"]
                if status in {"done", "failed"}:
                    assert status == "done"
                    return job, told
                await pause(0.1)


async def test_one_connected_trace(tmp_path: Path, own_redis: RedisServer) -> None:
    async with collector(tmp_path) as (endpoint, receiver), running(tmp_path, own_redis, endpoint) as parts:
        job, told = await submit(f"http://127.0.0.1:{parts[0].ports[8080]}", {"traceparent": CALLER})
        trace, root = CALLER.split("-")[1:3]
        assert told == trace
        wanted = {"POST /api/upload", "POST /api/predict", "job segmentation", "model request", "saving-results"}
        spans = await receiver.until(wanted, trace)
        assert {each.service for each in spans} == {"cellkiosk-frontend", "cellkiosk-consumer"}
        known = {each.id for each in spans} | {root}
        assert [each for each in spans if each.parent not in known] == [], "spans without a parent"
        job_span = next(each for each in spans if each.name == "job segmentation")
        assert job_span.parent in {each.id for each in spans if each.name == "POST /api/predict"}
        for part in parts:
            logged = [json.loads(line) for line in part.log.read_text().splitlines() if line.startswith("{")]
            mine = [line for line in logged if line.get("job") == job]
            assert mine, part.manifest["name"]
            assert {line["event"] for line in mine if line.get("trace_id") != trace} == set()
        async with contextlib.aclosing(open_store(own_redis.url, "{kiosk}:")) as store:
            (told_by_job,) = await store.get_fields(job, ["traceparent"])
            assert str(told_by_job).split("-")[1] == trace


async def test_nothing_is_sent_when_nothing_is_sampled(tmp_path: Path, own_redis: RedisServer) -> None:
    async with collector(tmp_path) as (endpoint, receiver):
        async with running(tmp_path, own_redis, endpoint, ratio="0") as parts:
            await submit(f"http://127.0.0.1:{parts[0].ports[8080]}", {})
        # The services have stopped, and sent what they had.
        assert receiver.spans == []
