"""The client for programs without asyncio: the asynchronous one, run in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cellkiosk.aio import AsyncClient, AsyncJob, Source
from cellkiosk.models import Event, File, JobInfo, JobType
from cellkiosk.sending import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")
_END: Any = object()


class Client:
    """One CellKiosk server.

        with Client("https://kiosk.example.org", key) as kiosk:
            job = kiosk.submit("cells.tif", "segmentation")
            for event in job.watch():
                print(event.status, event.progress)
            labels = job.labels()

    The arguments of all methods are those of ``AsyncClient``; several threads may use one client.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, patience: float = 120.0) -> None:
        """Open nothing yet; see ``AsyncClient``."""
        self._client = AsyncClient(url, key, patience=patience)
        self._loop = _Loop()

    def upload(self, source: Source, name: str | None = None, *, progress: Progress | None = None) -> File:
        """Send a file; it goes on where it broke off, a large one also in a later run."""
        return self._loop.run(self._client.upload(source, name, progress=progress))

    def submit(
        self,
        source: Source | File,
        type: str | None = None,  # noqa: A002
        options: Mapping[str, Any] | None = None,
        *,
        model: str = "",
        model_version: str = "",
        priority: int = 0,
        batch: str = "",
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Send an image, unless it was uploaded before, and have a job done on it."""
        submitted = self._client.submit(
            source,
            type,
            options,
            model=model,
            model_version=model_version,
            priority=priority,
            batch=batch,
            name=name,
            progress=progress,
        )
        return Job(self._loop.run(submitted), self._loop)

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted before; nothing is asked yet."""
        return Job(self._client.job(job_id), self._loop)

    def jobs(self, *, status: str = "", type: str = "") -> Iterator[JobInfo]:  # noqa: A002
        """Yield your jobs, newest first."""
        return self._loop.each(self._client.jobs(status=status, type=type))

    def watch(self, jobs: Sequence[Job | str]) -> Iterator[Event]:
        """Yield the changes of many jobs on few connections, until all have ended."""
        return self._loop.each(self._client.watch([job if isinstance(job, str) else job.id for job in jobs]))

    def job_types(self) -> list[JobType]:
        """Return what can be done here, the default first."""
        return self._loop.run(self._client.job_types())

    def models(self) -> dict[str, list[str]]:
        """Return the models that are served, and their versions."""
        return self._loop.run(self._client.models())

    def close(self) -> None:
        """Close connections, and end the thread."""
        if self._loop.started:
            self._loop.run(self._client.aclose())
        self._loop.stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Job:
    """One job; the arguments of all methods are those of ``AsyncJob``."""

    def __init__(self, job: AsyncJob, loop: _Loop) -> None:
        self._job = job
        self._loop = loop

    @property
    def id(self) -> str:
        """Of the job."""
        return self._job.id

    @property
    def info(self) -> JobInfo | None:
        """As it stood when last asked; None before."""
        return self._job.info

    def refresh(self) -> JobInfo:
        """Ask how it stands."""
        return self._loop.run(self._job.refresh())

    def watch(self) -> Iterator[Event]:
        """Yield how it stands, and each change, until it has ended."""
        return self._loop.each(self._job.watch())

    def wait(self) -> Job:
        """Return itself when it is done."""
        self._loop.run(self._job.wait())
        return self

    def result(self, target: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
        """Write the result, a zip, to a file (or into a folder, under its own name); return the file's path."""
        return self._loop.run(self._job.result(target, progress=progress))

    def label_images(self) -> dict[str, NDArray[np.integer[Any]]]:
        """Return all label images of the result by their names."""
        return self._loop.run(self._job.label_images())

    def labels(self) -> NDArray[np.integer[Any]]:
        """Return the label image (the first, if there are several): integers, 0 for background."""
        return self._loop.run(self._job.labels())

    def cancel(self) -> bool:
        """Give it up; return False if it had ended."""
        return self._loop.run(self._job.cancel())

    def expire(self, seconds: float | None) -> None:
        """Have it and its files removed so many s after its end; None keeps them."""
        self._loop.run(self._job.expire(seconds))


class _Loop:
    """An event loop in a thread, begun at first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def started(self) -> bool:
        return self._loop is not None

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Return what the coroutine returns; an interrupt (Ctrl-C) cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            concurrent.futures.wait([future], 5)
            raise

    def each(self, items: AsyncIterator[R]) -> Iterator[R]:
        """Yield what an asynchronous generator yields."""
        try:
            while (item := self.run(_next(items))) is not _END:
                yield item
        finally:
            self.run(_close(items))

    def stop(self) -> None:
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="cellkiosk", daemon=True)
                self._thread.start()
            return self._loop


async def _next(items: AsyncIterator[R]) -> R:
    return await anext(items, _END)


async def _close(items: Any) -> None:
    await items.aclose()
