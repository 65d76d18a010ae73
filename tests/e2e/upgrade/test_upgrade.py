"""A rolling upgrade with jobs in flight, and the way back: two versions of the code side by side on one Redis.

The earlier version is the commit or tag in ``previous.txt``: the oldest one that the present code promises to work
beside. Where the clone does not hold it, as a shallow one may not, the test is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from services.console.up import ports
from shared.jobs import Job, JobStore, open_store
from shared.jobs.audit import audit
from tests.fixtures.consumer import MODELS, cells, tiff
from tests.fixtures.redis import RedisServer
from tests.fixtures.suite import ROOT

PREVIOUS = (Path(__file__).parent / "previous.txt").read_text().strip()
PARTS = ("consumer", "janitor", "frontend")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the earlier version."""
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "services", "shared", "cellkiosk"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip(f"this clone does not hold the earlier version {PREVIOUS}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@dataclass
class Rollout:
    """One deployment whose parts are replaced one by one, and all jobs that it was ever given."""

    folder: Path
    redis: RedisServer
    store: JobStore
    http: aiohttp.ClientSession
    running: dict[str, tuple[asyncio.subprocess.Process, int]] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    async def replace(self, part: str, tree: Path) -> None:
        """Start a part from a tree, and stop the one before it once the new one is ready: a rolling update."""
        fresh = await self._start(part, tree)
        before = self.running.get(part)
        self.running[part] = fresh
        if before is not None:
            if part == "consumer":
                await self._busy()
            before[0].terminate()
            async with asyncio.timeout(30):
                assert await before[0].wait() == 0, self.log(part)

    async def _busy(self) -> None:
        """Wait until each consumer holds jobs, so that the one that goes goes in the middle of its work."""
        async with asyncio.timeout(60):
            while not all(worker.held for worker in await self.store.workers()):
                await self.submit(2)

    async def _start(self, part: str, tree: Path) -> tuple[asyncio.subprocess.Process, int]:
        side, port = ports.take(0), ports.take(0)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KIOSK_")}
        settings = {
            "PYTHONPATH": str(tree),
            "KIOSK_NAME": f"{part}-{side}",
            "KIOSK_REDIS__URL": self.redis.url,
            "KIOSK_STORAGE__URL": (self.folder / "storage").as_uri(),
            "KIOSK_MODEL_SERVER__URL": f"onnx://{MODELS}",
            "KIOSK_SCRATCH": str(self.folder / "scratch"),
            "KIOSK_PORT": str(port),
            "KIOSK_HEALTH__PORT": str(side),
            "KIOSK_HEALTH__HOST": "127.0.0.1",
            "KIOSK_WORK__SLOTS": "3",
            "KIOSK_GRACE": "1",
        }
        with (self.folder / f"{part}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"services.{part}"), cwd=tree, env=clean | settings, stdout=log, stderr=log
            )
        async with asyncio.timeout(90):
            while not await self._ready(side):
                assert process.returncode is None, self.log(part)
                await asyncio.sleep(0.1)
        return process, port

    async def _ready(self, side: int) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self.http.get(f"http://127.0.0.1:{side}/readyz") as answer:
                return answer.status == 200
        return False

    async def submit(self, count: int, archives: int = 0) -> None:
        """Submit images and archives by the API that the oldest clients use."""
        image = tiff(cells(96, 144)[0])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number in range(3):
                archive.writestr(f"{number}.tif", image)
        files = [("cells.tif", image)] * count + [("all.zip", packed.getvalue())] * archives
        for name, content in files:
            form = aiohttp.FormData()
            form.add_field("file", io.BytesIO(content), filename=name)
            stored = await self._post("upload", data=form)
            wish = {"jobType": "segmentation", "imageName": name, "uploadedName": stored["uploadedName"]}
            self.jobs.append((await self._post("predict", json=wish))["hash"])

    async def _post(self, route: str, **body: object) -> dict[str, str]:
        async with self.http.post(f"{self.url}/api/{route}", **body) as answer:  # type: ignore[arg-type]
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    @property
    def url(self) -> str:
        """The address of the frontend that runs now."""
        return f"http://127.0.0.1:{self.running['frontend'][1]}"

    async def all_ended(self) -> list[Job]:
        """Wait until every job has ended, and return all."""
        while True:
            found = [job for job in await self.store.get_many(self.jobs) if job is not None]
            assert len(found) == len(self.jobs), "a job has gone"
            if all(job.final for job in found):
                return found
            await asyncio.sleep(0.1)

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text()[-2000:]


@pytest.fixture
async def rollout(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Rollout]:
    store = open_store(own_redis.url, "{kiosk}:")
    async with aiohttp.ClientSession() as http:
        made = Rollout(tmp_path, own_redis, store, http)
        yield made
        for process, _port in made.running.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
    await store.aclose()


async def test_a_rolling_upgrade_and_the_way_back_lose_nothing(rollout: Rollout, earlier: Path) -> None:
    for part in PARTS:  # the frontend last: it reads at its start what the consumer has announced
        await rollout.replace(part, earlier)
    await rollout.submit(6, archives=2)
    for tree in (ROOT, earlier):  # the new consumer meets the old frontend, and on the way back the other way round
        for part in PARTS:
            await rollout.replace(part, tree)
            await rollout.submit(2, archives=1)
    async with asyncio.timeout(120):
        jobs = await rollout.all_ended()
    assert {(job.status, job.fields.get("reason")) for job in jobs} == {("done", None)}
    assert {job.fields["losses"] for job in jobs} == {"0"}, "handing over is no loss"
    names = {await _entries(rollout, job) for job in jobs}
    assert names == {("cells_batch_0_feature_0.tif",), tuple(f"{n}_batch_0_feature_0.tif" for n in range(3))}
    assert [finding.sentence for finding in await audit(rollout.store)] == []


async def _entries(rollout: Rollout, job: Job) -> tuple[str, ...]:
    path = rollout.folder / "storage" / job.fields["output_file_name"]
    with zipfile.ZipFile(io.BytesIO(await asyncio.to_thread(path.read_bytes))) as result:
        return tuple(sorted(result.namelist()))
