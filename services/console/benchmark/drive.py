"""Submits a benchmark's jobs and follows them to their ends, through the API that every client uses."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from services.console.benchmark.plan import Plan
from shared.errors import InvalidInput, Retry

#: Fields of a job that its record holds.
FIELDS = (
    "status",
    "total_time",
    "total_jobs",
    "output_url",
    "created_at",
    "finished_at",
    "prediction_time",
    "preprocess_time",
    "postprocess_time",
    "upload_time",
    "download_time",
    "predict_retries",
    "cleanup_time",
    "children_upload_time",
    "reason",
    "attempt",
    "gpu_seconds",
    "cpu_seconds",
    "bytes_in",
    "bytes_out",
    "model",
    "model_version",
)
FINAL = ("done", "failed", "canceled")

#: Unfinished jobs that are looked at in one round, the oldest first; jobs finish about in their order.
_WINDOW = 32
#: s between two rounds.
_PAUSE = 0.2
#: Tries of one request while the service is away or full, and the longest pause (s) between two.
_TRIES = 12
_LONGEST_PAUSE = 10.0


@dataclass
class Run:
    """What a benchmark saw.

    Attributes:
        began, ended: s since 1970; from the first submission to the last job's end as it was seen here.
        jobs: of each job its file, its id and its fields, in the order of their submission.
        uploaded: bytes of the uploads.
        downloaded: bytes of the results, if they were fetched.
    """

    began: float = 0.0
    ended: float = 0.0
    jobs: list[dict[str, Any]] = field(default_factory=list)
    uploaded: int = 0
    downloaded: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self.ended - self.began


Progress = Callable[[int, int, int], None]
"""Takes the numbers of submitted, finished and failed jobs."""


async def drive(plan: Plan, url: str, progress: Progress, results: Path | None = None, key: str = "") -> Run:
    """Carry out a plan.

    Args:
        plan: what to do.
        url: address of the frontend.
        progress: called now and then.
        results: folder that results are fetched into; None leaves them where they are.
        key: API key; empty for none.

    Raises:
        InvalidInput: the service refused a file or a job; its sentence is passed on.
        Retry: the service cannot be reached.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        driver = _Driver(http, url.rstrip("/"), plan, progress, results)
        return await driver.run()


class _Driver:
    def __init__(
        self, http: aiohttp.ClientSession, url: str, plan: Plan, progress: Progress, results: Path | None
    ) -> None:
        self._http = http
        self._url = url
        self._plan = plan
        self._progress = progress
        self._results = results
        self._open: deque[dict[str, Any]] = deque()
        self._finished = 0
        self._failed = 0
        self._submitted_all = asyncio.Event()
        self._run = Run()

    async def run(self) -> Run:
        stored = await self._store_files()
        self._run.began = time.time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit(stored))
            group.create_task(self._follow())
        self._run.ended = time.time()
        if self._results is not None:
            await self._fetch_results(self._results)
        return self._run

    async def _store_files(self) -> dict[str, str]:
        """Upload each file once; return its key in storage."""
        if not self._plan.local:
            return {name: name if name.startswith("uploads/") else f"uploads/{name}" for name in self._plan.files}
        stored = {}
        for name in self._plan.files:
            path = Path(name)
            self._run.uploaded += await asyncio.to_thread(_size, path)
            stored[name] = str((await self._upload(path))["uploadedName"])
        return stored

    async def _upload(self, path: Path) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            with path.open("rb") as file:
                form = aiohttp.FormData()
                form.add_field("file", file, filename=path.name)
                async with self._http.post(f"{self._url}/api/upload", data=form) as answer:
                    return await _checked(answer)

        return await _patiently(once)

    async def _submit(self, stored: dict[str, str]) -> None:
        names = list(stored)
        began = time.monotonic()
        for number in range(self._plan.count):
            name = names[number % len(names)]
            if self._plan.start_delay:  # by the clock, so that slow answers do not add up
                await asyncio.sleep(max(0.0, began + number * self._plan.start_delay - time.monotonic()))
            body = {
                "jobType": self._plan.job_type,
                "imageName": Path(name).name,
                "uploadedName": stored[name],
                "modelName": self._plan.model_name,
                "modelVersion": self._plan.model_version,
            }
            answer = await self._post("predict", body)
            job = {"job_id": str(answer["hash"]), "input_file": Path(name).name}
            self._run.jobs.append(job)
            self._open.append(job)
            self._tell()
        self._submitted_all.set()

    async def _follow(self) -> None:
        while self._open or not self._submitted_all.is_set():
            window = [self._open.popleft() for _ in range(min(_WINDOW, len(self._open)))]
            await asyncio.gather(*(self._look(job) for job in window))
            unfinished = [job for job in window if job.get("status") not in FINAL]
            self._open.extendleft(reversed(unfinished))
            if len(unfinished) == len(window):
                await asyncio.sleep(_PAUSE)
            if len(unfinished) != len(window):
                self._tell()

    async def _look(self, job: dict[str, Any]) -> None:
        answer = await self._post("redis", {"hash": job["job_id"], "key": list(FIELDS)})
        fields = dict(zip(FIELDS, answer["value"], strict=True))
        if fields["status"] is None:
            fields |= {"status": "failed", "reason": "The job has gone: somebody expired it."}
        if fields["status"] in FINAL:
            self._finished += 1
            self._failed += fields["status"] != "done"
        job.update(fields)

    def _tell(self) -> None:
        self._progress(len(self._run.jobs), self._finished, self._failed)

    async def _post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            async with self._http.post(f"{self._url}/api/{route}", json=body) as answer:
                return await _checked(answer)

        return await _patiently(once)

    async def _fetch_results(self, folder: Path) -> None:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        for number, job in enumerate(self._run.jobs):
            if job["status"] != "done" or not job["output_url"]:
                continue
            path = folder / f"{number:05d}-{Path(job['input_file']).stem}.zip"
            async with self._http.get(job["output_url"]) as answer:
                if answer.status != 200:
                    raise Retry(f"The result {job['output_url']} cannot be fetched: HTTP {answer.status}.")
                with path.open("wb") as file:
                    async for chunk in answer.content.iter_chunked(2**20):
                        self._run.downloaded += file.write(chunk)


def _size(path: Path) -> int:
    return path.stat().st_size


async def _checked(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the JSON of an answer.

    Raises:
        InvalidInput: it was refused for good.
        Retry: it was refused for now.
    """
    try:
        body = await answer.json(content_type=None)
    except ValueError:
        body = {}
    if answer.status == 200 and isinstance(body, dict):
        return body
    sentence = str((body or {}).get("message") or f"{answer.url} answered {answer.status}.")
    if answer.status in (408, 429) or answer.status >= 500:
        after = answer.headers.get("Retry-After", "")
        raise Retry(sentence, after=float(after) if after.isdigit() else None)
    raise InvalidInput(sentence)


async def _patiently(once: Callable[[], Any]) -> dict[str, Any]:
    """Try again while the service is away, with growing pauses."""
    pause, told = 0.25, Retry("The service cannot be reached.")
    for _ in range(_TRIES):
        try:
            return dict(await once())
        except Retry as error:
            told = error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            told = Retry(f"The service cannot be reached: {str(error) or type(error).__name__}.")
        await asyncio.sleep(min(told.after or pause, _LONGEST_PAUSE))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise told
