"""The asynchronous client; ``Client`` in ``sync.py`` is the same without ``await``."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from cellkiosk import sending
from cellkiosk.direct import DirectUpload, NotOffered
from cellkiosk.errors import BadFile, JobCanceled, JobFailed, Refused
from cellkiosk.events import follow
from cellkiosk.models import FINAL, Event, File, JobInfo, JobType, event_of, info_of, type_of
from cellkiosk.results import download, label_images
from cellkiosk.sending import Outgoing, Progress, mark_of
from cellkiosk.transport import Transport
from cellkiosk.upload import Upload

if TYPE_CHECKING:  # the command line does without arrays, and starts the faster for it
    import numpy as np
    from numpy.typing import NDArray

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]"
"""An image: a path, the bytes of a file, an open file, or an array."""

_STREAM = 100
"""Jobs on one event stream."""
_PAGE = 200


class AsyncClient:
    """One CellKiosk server.

    async with AsyncClient("https://kiosk.example.org", key) as kiosk:
        job = await kiosk.submit("cells.tif", "segmentation")
        labels = await (await job.wait()).labels()
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, patience: float = 120.0) -> None:
        """Open nothing yet.

        Args:
            url: of the server; KIOSK_URL or this machine's by default.
            key: API key; KIOSK_API_KEY by default; none where the server lets everybody in.
            patience: s during which what fails for reasons that may pass is tried again.
        """
        address = url or os.environ.get("KIOSK_URL") or "http://127.0.0.1:8080"
        if not address.startswith(("http://", "https://")):
            raise BadFile(f"{address!r} is no address of a server: it must begin with http:// or https://.")
        self.transport = Transport(address, key or os.environ.get("KIOSK_API_KEY") or None, patience)
        self._straight = True

    async def upload(self, source: Source, name: str | None = None, *, progress: Progress | None = None) -> File:
        """Send a file; it goes on where it broke off, a large one also in a later run.

        A large one goes straight to the server's bucket, if it has one that can be reached from here.

        Args:
            source: what; an array is sent as a TIFF.
            name: for people; that of the path by default.
            progress: called with the bytes sent and the bytes in all.

        Raises:
            BadFile: it cannot be read.
            Refused: it is no image, or too large.
        """
        path = Path(source) if isinstance(source, str | os.PathLike) else None
        named = name or (path.name if path else "image.tif")
        with _opened(source) as file:
            mark = mark_of(self.transport.url, path) if path else None
            return await self._sent(Outgoing(file, named, progress, mark))

    async def _sent(self, file: Outgoing) -> File:
        if self._straight and file.size > sending.CHUNK and "location" not in file.remembered():
            try:
                return await DirectUpload(self.transport, file).run()
            except NotOffered:
                self._straight = False  # nor for the next file
        return await Upload(self.transport, file).run()

    async def submit(
        self,
        source: Source | File,
        type: str | None = None,  # noqa: A002  # what it is called everywhere
        options: Mapping[str, Any] | None = None,
        *,
        model: str = "",
        model_version: str = "",
        priority: int = 0,
        batch: str = "",
        name: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncJob:
        """Send an image, unless it was uploaded before, and have a job done on it.

        Args:
            source: the image.
            type: job type; the server's default if None.
            options: as the job type's schema allows (``job_types``).
            model: another than the job type's own.
            model_version: the newest if empty.
            priority: −100 to 100; higher goes first among your own jobs.
            batch: 32 hexadecimal digits that several jobs share.
            name: of the image, for people.
            progress: of the upload.

        Raises:
            Refused: the job type, the options or the image are not what there is.
        """
        kind = type or await self._default_type()
        file = source if isinstance(source, File) else await self.upload(source, name, progress=progress)
        order = {
            "file": file.key,
            "name": name or file.name,
            "type": kind,
            "options": dict(options or {}),
            "model": model,
            "model_version": model_version,
            "priority": priority,
            "batch": batch,
        }
        # The key makes it safe to send again when the answer is lost.
        raw = await self.transport.json("POST", "/api/v1/jobs", order, headers={"Idempotency-Key": uuid.uuid4().hex})
        return AsyncJob(self, raw["id"], info_of(raw))

    def job(self, job_id: str) -> AsyncJob:
        """Return a job that was submitted before; nothing is asked yet."""
        return AsyncJob(self, job_id)

    async def jobs(self, *, status: str = "", type: str = "") -> AsyncIterator[JobInfo]:  # noqa: A002
        """Yield your jobs, newest first."""
        query = {"limit": str(_PAGE), "status": status, "type": type}
        while True:
            given = {name: value for name, value in query.items() if value}
            page = await self.transport.json("GET", "/api/v1/jobs", params=given)
            for raw in page["jobs"]:
                yield info_of(raw)
            if not page["cursor"]:
                return
            query["cursor"] = page["cursor"]

    async def watch(self, jobs: Sequence[AsyncJob | str]) -> AsyncIterator[Event]:
        """Yield the changes of many jobs on few connections, until all have ended."""
        ids = [job if isinstance(job, str) else job.id for job in jobs]
        queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue(1000)
        # Tasks and a queue, not a task group: the steps of this generator may be taken by different tasks.
        tasks = [
            asyncio.create_task(self._follow_some(ids[at : at + _STREAM], queue)) for at in range(0, len(ids), _STREAM)
        ]
        left = len(tasks)
        try:
            while left:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_some(self, ids: list[str], queue: asyncio.Queue[Event | BaseException | None]) -> None:
        try:
            async for event in follow(self.transport, f"/api/v1/events?ids={','.join(ids)}"):
                await queue.put(event)
            await queue.put(None)
        except Exception as error:  # noqa: BLE001  # raised again by whoever reads the queue
            await queue.put(error)

    async def _default_type(self) -> str:
        kinds = await self.job_types()
        if not kinds:
            raise Refused(
                "No worker has told yet what can be done here; try again, or name a job type.", 503, "no-type"
            )
        return kinds[0].name

    async def job_types(self) -> list[JobType]:
        """Return what can be done here, the default first."""
        raw = await self.transport.json("GET", "/api/v1/job-types")
        return [type_of(one) for one in raw["job_types"]]

    async def models(self) -> dict[str, list[str]]:
        """Return the models that are served, and their versions."""
        found: dict[str, list[str]] = (await self.transport.json("GET", "/api/v1/models"))["models"]
        return found

    async def aclose(self) -> None:
        """Close connections."""
        await self.transport.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncJob:
    """One job."""

    def __init__(self, client: AsyncClient, job_id: str, info: JobInfo | None = None) -> None:
        self.client = client
        self.id = job_id
        self.info = info
        """As it stood when last asked; None before."""
        self._path = f"/api/v1/jobs/{job_id}"

    async def refresh(self) -> JobInfo:
        """Ask how it stands.

        Raises:
            NotFound: there is no such job (any more).
        """
        self.info = info_of(await self.client.transport.json("GET", self._path))
        return self.info

    async def watch(self) -> AsyncIterator[Event]:
        """Yield how it stands, and each change, until it has ended."""
        async for event in follow(self.client.transport, f"{self._path}/events"):
            yield event

    async def wait(self) -> AsyncJob:
        """Return itself when it is done.

        Raises:
            JobFailed, JobCanceled: it ended otherwise.
        """
        async for event in self.watch():
            if event.final:
                _refuse(event)
        await self.refresh()
        return self

    async def result(self, target: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
        """Write the result, a zip, to a file (or into a folder, under its own name); return the file's path.

        Raises:
            JobFailed, JobCanceled: there is none.
            NotFound: not yet, or no longer.
        """
        info = self.info if self.info and self.info.final else await self.refresh()
        _refuse(event_of(info.raw))
        path = await asyncio.to_thread(_target, Path(target), info)
        return await download(self.client.transport, f"{self._path}/result", path, progress)

    async def label_images(self) -> dict[str, NDArray[np.integer[Any]]]:
        """Return all label images of the result by their names.

        Each has the shape of its image, integers, 0 for background.
        """
        with tempfile.TemporaryDirectory(prefix="cellkiosk-") as folder:
            archive = await self.result(Path(folder) / "result.zip")
            return await asyncio.to_thread(label_images, archive)

    async def labels(self) -> NDArray[np.integer[Any]]:
        """Return the label image (the first, if there are several): integers, 0 for background."""
        return next(iter((await self.label_images()).values()))

    async def cancel(self) -> bool:
        """Give it up; return False if it had ended."""
        return bool((await self.client.transport.json("DELETE", self._path))["canceled"])

    async def expire(self, seconds: float | None) -> None:
        """Have it and its files removed so many s after its end; None keeps them."""
        await self.client.transport.json("PUT", f"{self._path}/expiry", {"seconds": seconds})


def _target(path: Path, info: JobInfo) -> Path:
    return path / f"{Path(info.name).stem or info.id.partition(':')[2]}.zip" if path.is_dir() else path


def _refuse(event: Event) -> None:
    reason = event.reason or f"The job {event.id} ended as {event.status!r}."
    if event.status == "canceled":
        raise JobCanceled(event.id, reason)
    if event.status in FINAL - {"done"}:
        raise JobFailed(event.id, reason)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        try:
            file = Path(source).open("rb")  # noqa: SIM115
        except OSError as error:
            raise BadFile(f"{os.fspath(source)} cannot be read: {error.strerror}.") from error
        with file:
            yield file
    elif hasattr(source, "__array__"):
        import tifffile

        with tempfile.TemporaryDirectory(prefix="cellkiosk-") as folder:
            path = Path(folder) / "image.tif"
            tifffile.imwrite(path, source, photometric="minisblack")
            with path.open("rb") as made:
                yield made
    else:
        yield source
