"""The whole path from a stored image to its stored result, against a bare tritonclient loop on the same pixels.

    python -m benchmarks.pipeline [--json FILE] [--full]

The stand-in model sleeps 20 ms a tile, so that on few cores the figures show the suite and not the model. ``--full``
adds the image of 20,000 x 20,000 pixels and the archive of 1,000 images.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.report import Row, row, tell
from benchmarks.stack import Stack, cpu_seconds, model_busy_seconds, running_stack, watch_memory
from services.consumer.dense import intensity_window
from services.consumer.inference import open_model_server
from tests.fixtures.consumer import cells

SIDE = 1024
IMAGES = 60
OPTIONS = json.dumps({"scale": 1})
STANDIN, BUNDLED = "Standin", "NuclearSegmentation"
DECODED = 2  # bytes per pixel of the images here


def main() -> None:
    """Measure, print."""
    tell(asyncio.run(measure("--full" in sys.argv)))


async def measure(full: bool) -> list[Row]:
    """Return all rows."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with running_stack(Path(folder), STANDIN, BUNDLED, options=["--threads", "1"]) as stack:
            image = cells(SIDE, SIDE)[0]
            for model in (STANDIN, BUNDLED):
                rows += await _throughput(stack, model, image, IMAGES if model == STANDIN else 20)
            rows += await _bytes(stack, image)
            rows += [await _memory(stack, image, jobs) for jobs in (1, 10, 100)]
            if full:
                rows += await _large(stack)
                rows += await _archive(stack)
    return rows


def tiff(image: NDArray[Any], **options: Any) -> bytes:
    """Return an image as a TIFF file."""
    out = io.BytesIO()
    tifffile.imwrite(out, image, **options)
    return out.getvalue()


async def _throughput(stack: Stack, model: str, image: NDArray[Any], count: int) -> list[Row]:
    bare = await _bare(stack, model, image, count)
    assert stack.redis.process is not None
    parts = [stack.triton.process.pid, stack.redis.process.pid]
    async with stack.consumer() as consumer:
        await stack.finished(await stack.submit(tiff(image), "warm.tif", 6, model=model, options=OPTIONS))
        busy, cpu = model_busy_seconds(stack.triton, model), cpu_seconds(consumer.pid, *parts)
        began = time.perf_counter()
        jobs = await stack.finished(await stack.submit(tiff(image), "image.tif", count, model=model, options=OPTIONS))
        wall = time.perf_counter() - began
        busy, cpu = model_busy_seconds(stack.triton, model) - busy, cpu_seconds(consumer.pid, *parts) - cpu
    megapixels = count * image.size / 1e6
    rows = [
        row(
            f"images/s through the whole path, {model}", "images/s", count / wall,
            peer="bare tritonclient loop", peer_value=bare, at_least=0.9 if model == STANDIN else None,
        ),
        row(
            f"share of wall time in which {model} has work", "1", busy / wall,
            at_least=0.95 if model == STANDIN else None,
        ),
    ]  # fmt: skip
    if model == STANDIN:
        rows.append(row("CPU of all processes together per megapixel", "s/MP", cpu / megapixels, at_most=0.15))
        for stage in ("download", "preprocess", "prediction", "postprocess", "upload"):
            spent = sum(float(job.fields[f"{stage}_time"]) for job in jobs) / count
            rows.append(row(f"wall time of a job in stage {stage}, under load", "s", spent))
    return rows


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
    """Count what a worker sends to and gets from the model server, as the kernel saw it on their connection."""
    async with stack.consumer():
        await stack.finished(await stack.submit(tiff(image), "image.tif", 1, model=STANDIN, options=OPTIONS))
        before = _traffic(stack.triton.grpc_port)
        await stack.finished(await stack.submit(tiff(image), "image.tif", 10, model=STANDIN, options=OPTIONS))
        moved = _traffic(stack.triton.grpc_port) - before
    pixels = 10 * image.size * DECODED
    return [
        row("bytes to and from the model server over bytes of the decoded pixels", "1", moved / pixels, at_most=2.5)
    ]


def _traffic(port: int) -> int:
    """Return the bytes that connections to a local port have carried, both ways."""
    told = subprocess.run(["ss", "-tinH", "dport", f"= :{port}"], capture_output=True, text=True, check=True).stdout
    return sum(int(number) for number in re.findall(r"bytes_(?:sent|received):(\d+)", told))


async def _memory(stack: Stack, image: NDArray[Any], jobs: int) -> Row:
    async with stack.consumer(KIOSK_WORK__SLOTS=str(jobs)) as consumer:
        most = [0.0]
        watcher = asyncio.create_task(watch_memory(consumer.pid, most))
        await stack.finished(await stack.submit(tiff(image), "image.tif", jobs, model=STANDIN, options=OPTIONS))
        watcher.cancel()
    return row(f"peak memory of one worker at {jobs} jobs of {SIDE}² in flight", "MB", most[0])


async def _large(stack: Stack) -> list[Row]:
    """One image of 20,000 x 20,000 pixels."""
    tile = np.tile(cells(1000, 1000, spacing=50)[0], (20, 20))
    content = tiff(tile, tile=(512, 512), compression="zlib", compressionargs={"level": 1})
    del tile
    async with stack.consumer() as consumer:
        most = [0.0]
        watcher = asyncio.create_task(watch_memory(consumer.pid, most))
        began = time.perf_counter()
        await stack.finished(await stack.submit(content, "large.tif", 1, model=STANDIN, options=OPTIONS))
        wall = time.perf_counter() - began
        watcher.cancel()
    return [
        row("time of one image of 20,000²", "s", wall),
        row("peak memory of one image of 20,000²", "MB", most[0], at_most=2000),
    ]


async def _archive(stack: Stack) -> list[Row]:
    """An archive of 1,000 images."""
    out = io.BytesIO()
    content = tiff(cells(256, 256)[0])
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.tif", content)
    async with stack.consumer() as consumer:
        most = [0.0]
        watcher = asyncio.create_task(watch_memory(consumer.pid, most))
        began = time.perf_counter()
        ids = await stack.submit(
            out.getvalue(), "many.zip", 1, "archive", item_type="segmentation", model=STANDIN, options=OPTIONS
        )
        await stack.finished(ids)
        wall = time.perf_counter() - began
        watcher.cancel()
    return [
        row("time of an archive of 1,000 images of 256²", "s", wall),
        row("peak memory of an archive of 1,000 images", "MB", most[0]),
    ]


if __name__ == "__main__":
    main()
