"""What an image's way to the model server costs, over gRPC and through shared memory: ``python -m benchmarks.wire``.

One client sends blocks of 2048 x 2048 pixels one after the other to a model whose network does nothing on a server of
its own, so that what is left is the way there and back and the server's own array work.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, shared_memory

from benchmarks.report import Row, row, tell
from tests.fixtures.triton import copy_models, running_triton

SIDE, CALLS = 2048, 12
KINDS = {"uint8": "UINT8", "uint16": "UINT16"}
NET = "def load(_folder, _threads):\n    return lambda batch: batch\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        repository = copy_models(Path(scratch) / "models", "Standin")
        (repository / "Standin" / "1" / "net.py").write_text(NET)
        with running_triton(repository, Path(scratch) / "log") as server:
            rows = _measure(f"127.0.0.1:{server.grpc_port}")
    tell(rows)


def _measure(address: str) -> list[Row]:
    rows = []
    print(f"{'block':>20} {'way':>14} {'ms a call':>10} {'client CPU ms':>14}")
    with InferenceServerClient(address) as client:
        for name in KINDS:
            block = np.random.default_rng(1).integers(0, 255, (1, SIDE, SIDE, 1)).astype(name)
            found = {"gRPC": _time(_plain(client, block))}
            with _shared(client, block) as call:
                found["shared memory"] = _time(call)
            for way, (wall, spent) in found.items():
                print(f"{f'{SIDE} x {SIDE} {name}':>20} {way:>14} {wall:10.1f} {spent:14.1f}")
            rows.append(_row(name, found["gRPC"][0], found["shared memory"][0]))
    return rows


def _row(name: str, plain: float, shared: float) -> Row:
    what = f"a call with a block of {SIDE} x {SIDE} {name} over gRPC"
    return row(what, "ms", plain, peer="shared memory", peer_value=shared)


def _time(call: Callable[[], None]) -> tuple[float, float]:
    """Median wall time and mean CPU time of this process, milliseconds a call."""
    call()
    before, times = resource.getrusage(resource.RUSAGE_SELF), []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * statistics.median(times), 1000 * spent / CALLS


def _small() -> list[InferInput]:
    window = InferInput("window", [1, 1, 2], "FP32").set_data_from_numpy(np.array([[[0, 255]]], np.float32))
    return [window, InferInput("zoom", [1, 1], "FP32").set_data_from_numpy(np.ones((1, 1), np.float32))]


def _plain(client: InferenceServerClient, block: NDArray[Any]) -> Callable[[], None]:
    def call() -> None:
        image = InferInput(block.dtype.name, list(block.shape), KINDS[block.dtype.name]).set_data_from_numpy(block)
        result = client.infer("Standin", [image, *_small()], outputs=[InferRequestedOutput("maps")])
        assert result.as_numpy("maps").shape == (1, 1, SIDE, SIDE)

    return call


@contextlib.contextmanager
def _shared(client: InferenceServerClient, block: NDArray[Any]) -> Iterator[Callable[[], None]]:
    """Make a region for the block and one for the answer, and take them away again when both sides are done."""
    name, answer_name = f"kiosk-{block.dtype.name}", f"kiosk-{block.dtype.name}-maps"
    sizes = {name: block.nbytes, answer_name: SIDE * SIDE}
    regions = {each: shared_memory.create_shared_memory_region(each, f"/{each}", size) for each, size in sizes.items()}
    for each, size in sizes.items():
        client.register_system_shared_memory(each, f"/{each}", size)

    def call() -> None:
        shared_memory.set_shared_memory_region(regions[name], [block])
        image = InferInput(block.dtype.name, list(block.shape), KINDS[block.dtype.name])
        image.set_shared_memory(name, block.nbytes)
        output = InferRequestedOutput("maps")
        output.set_shared_memory(answer_name, SIDE * SIDE)
        client.infer("Standin", [image, *_small()], outputs=[output])
        maps = shared_memory.get_contents_as_numpy(regions[answer_name], np.uint8, [1, 1, SIDE, SIDE]).copy()
        assert maps.any()

    try:
        yield call
    finally:
        _forget(client)
        for region in regions.values():
            shared_memory.destroy_shared_memory_region(region)


def _forget(client: InferenceServerClient) -> None:
    """The server refuses while it still cleans up after the call that it has just answered."""
    for last in (False,) * 50 + (True,):
        try:
            client.unregister_system_shared_memory()
        except InferenceServerException:
            if last:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main()
