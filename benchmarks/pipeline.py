"""The whole path from a stored image to its stored result, against a bare tritonclient loop on the same pixels.

    python -m benchmarks.pipeline [--json FILE] [--full] [--only PART[,PART]]

The stand-in model sleeps 20 ms a tile, so that on few cores the figures show the suite and not the model. Parts:
standin, bundled, bytes, memory, stages; ``--full`` adds large (an image of 20,000 x 20,000 pixels), archive (1,000
images) and movie (1,000 frames).
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks import metered
from benchmarks.imaging import seconds
from benchmarks.report import Row, keep, options, row, tell
from benchmarks.stack import Stack, cpu_of, family, model_busy_seconds, running_stack, watch_memory
from services.consumer.dense import intensity_window
from services.consumer.imaging.watershed import WatershedParams, watershed
from services.consumer.inference import open_model_server
from services.consumer.reading import ReadLimits
from services.consumer.reading.formats import decode
from services.consumer.writing import write_labels, write_preview, write_zip
from shared.dense import predict
from shared.jobs import Job
from tests.fixtures.consumer import cells

SIDE = 1024
IMAGES = 60
OPTIONS = json.dumps({"scale": 1})
STANDIN, BUNDLED = "Standin", "NuclearSegmentation"
SHORT, LONG = ("standin", "bundled", "bytes", "memory", "stages"), ("large", "archive", "movie")
DECODED = 2  # bytes per pixel of the images here


def main() -> None:
    """Measure, print."""
    asked = options(__doc__, SHORT, LONG)
    tell(asyncio.run(measure(asked.only, asked.json)), [])


async def measure(wanted: Sequence[str], target: Path | None) -> list[Row]:
    """Return the rows of some parts, in their order; those of each are in the target as soon as it is done."""
    image = cells(SIDE, SIDE)[0]
    parts: dict[str, Callable[[Stack], Awaitable[list[Row]]]] = {
        "standin": lambda stack: _throughput(stack, STANDIN, image, IMAGES),
        "bundled": lambda stack: _bundled(stack, image, IMAGES // 3),
        "bytes": lambda stack: _bytes(stack, image),
        "memory": lambda stack: _memory(stack, image),
        "stages": lambda stack: _stages(stack, image),
        "large": _large,
        "archive": _archive,
        "movie": _movie,
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with running_stack(Path(folder), STANDIN, BUNDLED, options=["--threads", "1"]) as stack:
            for part in wanted:
                rows += await parts[part](stack)
                keep(rows, target)
    return rows


def tiff(image: NDArray[Any], **options: Any) -> bytes:
    """Return an image as a TIFF file."""
    out = io.BytesIO()
    tifffile.imwrite(out, image, **options)
    return out.getvalue()


@dataclass(frozen=True)
class Run:
    """What some jobs took together, in seconds."""

    wall: float
    network: float
    cpu: dict[str, float]
    """By what spent it."""
    jobs: list[Job]


async def _run(stack: Stack, model: str, image: NDArray[Any], count: int, own: Path | None = None) -> Run:
    """Run jobs on a model; ``own`` is a file that holds the processor seconds that its network has spent."""
    assert stack.redis.process is not None
    async with stack.consumer() as consumer:
        await stack.finished(await stack.submit(tiff(image), "warm.tif", 6, model=model, options=OPTIONS))
        (network,) = stack.triton.stubs(model)
        processes = {
            "the worker": [consumer.pid], "the decoders": list(family(consumer.pid))[1:],
            "Triton": [stack.triton.process.pid], "the model's process": [network], "Redis": [stack.redis.process.pid],
        }  # fmt: skip

        def spent() -> dict[str, float]:
            of = {name: sum(map(cpu_of, pids)) for name, pids in processes.items()}
            return of | ({"the network": float(own.read_text())} if own else {})

        before, busy, began = spent(), model_busy_seconds(stack.triton, model), time.perf_counter()
        jobs = await stack.finished(await stack.submit(tiff(image), "image.tif", count, model=model, options=OPTIONS))
        wall = time.perf_counter() - began
        busy = model_busy_seconds(stack.triton, model) - busy
        return Run(wall, busy, {name: after - before[name] for name, after in spent().items()}, jobs)


async def _throughput(stack: Stack, model: str, image: NDArray[Any], count: int) -> list[Row]:
    bare = await _bare(stack, model, image, count)
    run = await _run(stack, model, image, count)
    megapixels = count * image.size / 1e6
    rows = [
        row(
            f"images/s through the whole path, {model}", "images/s", count / run.wall,
            peer="bare tritonclient loop", peer_value=bare, at_least=0.9 if model == STANDIN else None,
        ),
        row(
            f"share of wall time in which the network of {model} itself runs", "1", run.network / run.wall,
            at_least=0.95 if model == STANDIN else None,
        ),
    ]  # fmt: skip
    if model == STANDIN:
        spent = sum(run.cpu.values()) / megapixels
        rows.append(row("CPU of all processes together per megapixel", "s/MP", spent, at_most=0.15))
        rows += [row(f"CPU of {name} per megapixel", "s/MP", spent / megapixels) for name, spent in run.cpu.items()]
        for stage in ("download", "preprocess", "prediction", "postprocess", "upload"):
            spent = sum(float(job.fields[f"{stage}_time"]) for job in run.jobs) / count
            rows.append(row(f"wall time of a job in stage {stage}, under load", "s", spent))
    return rows


async def _bundled(stack: Stack, image: NDArray[Any], count: int) -> list[Row]:
    """The bundled model; and what all processes cost beside its network, whose time a copy of the model counts."""
    rows = await _throughput(stack, BUNDLED, image, count)
    counted = stack.folder / "counted"
    name = _copied(
        stack, BUNDLED, "Metered", {"1/net.py": ('Path("counted")', f"Path({str(counted)!r})")}, Path(metered.__file__)
    )
    cpu = (await _run(stack, name, image, count, counted)).cpu
    own, megapixels = cpu.pop("the network"), count * image.size / 1e6
    less = f"CPU of all processes less ONNX Runtime's own run time per megapixel, {BUNDLED}"
    return [
        *rows,
        row(less, "s/MP", (sum(cpu.values()) - own) / megapixels, at_most=0.15),
        row(f"CPU of ONNX Runtime's own run time per megapixel, {BUNDLED}", "s/MP", own / megapixels),
    ]


async def _bare(stack: Stack, model: str, image: NDArray[Any], count: int) -> float:
    """Return images/s of a loop that sends ready tensors, at its best concurrency."""
    server = open_model_server(stack.triton.url)
    card = await server.card(model)
    await server.aclose()
    ready = _tensors(image, intensity_window(image, card.normalisation))
    best = 0.0
    for concurrency in (1, 2, 4, 8, 16):
        async with _client(stack) as client:
            left = iter(range(count))

            async def send(client: InferenceServerClient = client, left: Any = left) -> None:
                for _ in left:
                    await client.infer(model, ready)

            await client.infer(model, ready)
            began = time.perf_counter()
            await asyncio.gather(*(send() for _ in range(concurrency)))
            best = max(best, count / (time.perf_counter() - began))
    return best


def _tensors(image: NDArray[Any], window: NDArray[np.float32]) -> list[InferInput]:
    """Return a request for a whole image (H, W) at zoom 1."""
    parts = (
        ("uint16", image[np.newaxis, ..., np.newaxis], "UINT16"),
        ("window", window[np.newaxis], "FP32"),
        ("zoom", np.ones((1, 1), np.float32), "FP32"),
    )
    return [InferInput(name, list(value.shape), kind).set_data_from_numpy(value) for name, value, kind in parts]


@asynccontextmanager
async def _client(stack: Stack) -> AsyncIterator[InferenceServerClient]:
    client = InferenceServerClient(stack.triton.url.removeprefix("grpc://"))
    try:
        yield client
    finally:
        await client.close()


async def _bytes(stack: Stack, image: NDArray[Any]) -> list[Row]:
    """Count what a worker sends to and gets from the model server: through shared memory, and on their connection.

    A block lies in shared memory once, written by the worker, where its server is on the same host, and its answer of
    a byte for each pixel once, written by the server. What the connection carried is as the kernel saw it.
    """
    async with stack.consumer() as consumer:
        await stack.finished(await stack.submit(tiff(image), "image.tif", 1, model=STANDIN, options=OPTIONS))
        before = _traffic(stack.triton.grpc_port)
        await stack.finished(await stack.submit(tiff(image), "image.tif", 10, model=STANDIN, options=OPTIONS))
        moved = _traffic(stack.triton.grpc_port) - before
        is_shared = any(Path("/dev/shm").glob(f"kiosk-{consumer.pid}-*"))
    pixels = 10 * image.size * DECODED
    shared = pixels + 10 * image.size if is_shared else 0
    return [
        row(
            "bytes to and from the model server over bytes of the decoded pixels", "1", (moved + shared) / pixels,
            at_most=2.5,
        ),
        row("of these through shared memory", "1", shared / pixels),
    ]  # fmt: skip


def _traffic(port: int) -> int:
    """Return the bytes that connections to a local port have carried, both ways."""
    told = subprocess.run(["ss", "-tinH", "dport", f"= :{port}"], capture_output=True, text=True, check=True).stdout
    return sum(int(number) for number in re.findall(r"bytes_(?:sent|received):(\d+)", told))


async def _memory(stack: Stack, image: NDArray[Any]) -> list[Row]:
    rows = []
    for jobs in (1, 10, 100):
        async with stack.consumer(KIOSK_WORK__SLOTS=str(jobs)) as consumer, _peak(consumer.pid) as most:
            await stack.finished(await stack.submit(tiff(image), "image.tif", jobs, model=STANDIN, options=OPTIONS))
        rows.append(row(f"peak memory of one worker at {jobs} jobs of {SIDE}² in flight", "MB", most[0]))
    return rows


@asynccontextmanager
async def _peak(pid: int) -> AsyncIterator[list[float]]:
    """Watch the memory of a process and its children for the time of the context; the most is in the list."""
    most = [0.0]
    watcher = asyncio.create_task(watch_memory(pid, most))
    try:
        yield most
    finally:
        watcher.cancel()


async def _stages(stack: Stack, image: NDArray[Any]) -> list[Row]:
    """CPU of each array stage of one image, alone and on one thread."""
    cv2.setNumThreads(1)
    server = open_model_server(stack.triton.url)
    card = await server.card(STANDIN)
    await server.aclose()
    how, folder = card.postprocessing, stack.folder
    maps = predict(image[..., np.newaxis], intensity_window(image, card.normalisation), 1.0, card, lambda tiles: tiles)
    params = WatershedParams(smoothing=how.smoothing, h=how.h, min_size=how.min_size, max_hole=how.max_hole)
    labels = watershed(maps[0], params, (SIDE, SIDE))
    (folder / "stage.tif").write_bytes(tiff(image))
    stages: dict[str, Callable[[], Any]] = {
        "decoding": lambda: decode(folder / "stage.tif", folder / "stage.npy", ReadLimits(), ""),
        "intensity window": lambda: intensity_window(image, card.normalisation),
        "normalising, tiles, blending (in the model's process)": lambda: predict(
            image[..., np.newaxis], np.array([[0, 9000]], np.float32), 1.0, card, lambda tiles: tiles
        ),
        "watershed": lambda: watershed(maps[0], params, (SIDE, SIDE)),
        "label TIFF": lambda: write_labels(folder / "l.tif", labels, pixel_size_um=None, description={}),
        "zip": lambda: write_zip(folder / "r.zip", [("l.tif", folder / "l.tif")]),
        "preview": lambda: write_preview(image, labels, folder / "preview.png"),
    }
    return [row(f"CPU of stage {name}, alone", "s/MP", seconds(work) * 1e6 / SIDE**2) for name, work in stages.items()]


async def _large(stack: Stack) -> list[Row]:
    """One image of 20,000 x 20,000 pixels."""
    tile = np.tile(cells(1000, 1000, spacing=50)[0], (20, 20))
    content = tiff(tile, tile=(512, 512), compression="zlib", compressionargs={"level": 1})
    del tile
    async with stack.consumer() as consumer, _peak(consumer.pid) as most:
        began = time.perf_counter()
        await stack.finished(await stack.submit(content, "large.tif", 1, model=STANDIN, options=OPTIONS))
        wall = time.perf_counter() - began
    return [
        row("time of one image of 20,000²", "s", wall),
        row("peak memory of one image of 20,000²", "MB", most[0], at_most=2000),
    ]


async def _archive(stack: Stack) -> list[Row]:
    """An archive of 1,000 images; also on a model that takes no time, which shows what the suite itself can do."""
    out = io.BytesIO()
    content = tiff(cells(256, 256)[0])
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.tif", content)
    instant = _copied(stack, STANDIN, "Instant", {"1/net.py": ("SECONDS_PER_TILE = 0.02", "SECONDS_PER_TILE = 0")})
    rows = []
    for model, least in ((STANDIN, 1000 * 0.02), (instant, None)):
        async with stack.consumer() as consumer, _peak(consumer.pid) as most:
            began = time.perf_counter()
            facts = {"item_type": "segmentation", "model": model, "options": OPTIONS}
            await stack.finished(await stack.submit(out.getvalue(), "many.zip", 1, "archive", **facts))
            wall = time.perf_counter() - began
        rows += [
            row(
                f"time of an archive of 1,000 images of 256², {model}", "s", wall,
                peer="the network alone" if least else "", peer_value=least,
            ),
            row(f"peak memory of an archive of 1,000 images, {model}", "MB", most[0]),
        ]  # fmt: skip
    return rows


def _copied(
    stack: Stack, source: str, name: str, changes: dict[str, tuple[str, str]], network: Path | None = None
) -> str:
    """Put a copy of a model into the repository, with a text replaced in some of its files; return its name.

    A further network goes before its own one, which it finds in the folder ``onnx``.
    """
    target = stack.folder / name
    shutil.copytree(stack.triton.repository / source, target)
    if network is not None:
        (target / "1" / "onnx").mkdir()
        (target / "1" / "model.onnx").rename(target / "1" / "onnx" / "model.onnx")
        shutil.copy(network, target / "1" / "net.py")
    for path, (before, after) in {"card.yaml": (f"name: {source}", f"name: {name}"), **changes}.items():
        text = (target / path).read_text()
        (target / path).write_text(text.replace(before, after))
    target.rename(stack.triton.repository / name)
    stack.triton.http(f"repository/models/{name}/load", {})
    return name


async def _movie(stack: Stack) -> list[Row]:
    """A movie of 1,000 frames, from its file to tracks."""
    first, _ = cells(256, 256)
    content = tiff(np.stack([np.roll(first, t // 20, 0) for t in range(1000)]), photometric="minisblack")
    async with stack.consumer() as consumer, _peak(consumer.pid) as most:
        began = time.perf_counter()
        await stack.finished(await stack.submit(content, "movie.tif", 1, "tracking", model=STANDIN, options=OPTIONS))
        wall = time.perf_counter() - began
    return [
        row("time of a movie of 1,000 frames of 256²", "s", wall, peer="the network alone", peer_value=1000 * 0.02),
        row("peak memory of a movie of 1,000 frames", "MB", most[0], at_most=2000),
    ]


if __name__ == "__main__":
    main()
