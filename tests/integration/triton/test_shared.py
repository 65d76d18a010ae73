"""Blocks through shared memory to a server on this host, and through the socket where that cannot be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.consumer.inference import shared
from services.consumer.inference.shared import SharedBlocks, is_this_host
from services.consumer.inference.triton import TritonServer
from services.triton import environment
from tests.fixtures.triton import Triton, copy_models, free_ports, running_triton

SIDE = 700
WINDOW = np.array([[0, 255]], np.float32)


@pytest.fixture
async def client(triton: Triton) -> AsyncIterator[TritonServer]:
    server = TritonServer([("127.0.0.1", triton.grpc_port)])
    yield server
    await server.aclose()


def block(value: int) -> np.ndarray:
    image = np.zeros((SIDE, SIDE, 1), np.uint8)
    image[10:60, value : value + 50] = 200
    return image


async def ask(client: TritonServer, value: int, kinds: int = 1) -> np.ndarray:
    return await client.predict("Standin", "", block(value), WINDOW, 1.0, timeout=60, kinds=kinds)


def regions(server: Triton) -> list[str]:
    return [each["name"] for each in server.http("systemsharedmemory/status")]


def files() -> list[str]:
    return [each.name for each in Path("/dev/shm").glob(f"{shared.PREFIX}-{os.getpid()}-*")]


def columns(maps: np.ndarray) -> tuple[int, int]:
    found = np.flatnonzero(maps[0].any(axis=0))
    return int(found[0]), int(found[-1]) + 1


async def test_large_blocks_go_through_shared_memory_which_calls_use_again(triton: Triton) -> None:
    client = TritonServer([("127.0.0.1", triton.grpc_port)])
    try:
        for value in (10, 300):
            assert columns(await ask(client, value)) == (value, value + 50)
        assert len(regions(triton)) == len(files()) == 1
        together = await asyncio.gather(*(ask(client, 40 * n) for n in range(6)))
        assert [columns(maps) for maps in together] == [(40 * n, 40 * n + 50) for n in range(6)]
        assert 2 <= len(regions(triton)) <= 6
    finally:
        await client.aclose()
    assert regions(triton) == []
    assert files() == []


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The shapes of answers that were read from shared memory."""
    read, shapes = shared.Loan.read, []

    def noting(loan: shared.Loan, shape: list[int]) -> np.ndarray:
        shapes.append(shape)
        return read(loan, shape)

    monkeypatch.setattr(shared.Loan, "read", noting)
    return shapes


async def test_answers_come_through_shared_memory_too(client: TritonServer, answers: list[list[int]]) -> None:
    assert columns(await ask(client, 10, kinds=1)) == (10, 60)
    assert columns(await ask(client, 90, kinds=0)) == (90, 140)
    small = await client.predict("Standin", "", block(10), WINDOW, 0.5, timeout=60, kinds=1)
    assert small.shape == (1, SIDE // 2, SIDE // 2)
    assert answers == [[1, SIDE, SIDE]]


async def test_a_region_rests_while_the_answer_of_a_call_that_was_given_up_may_come(
    client: TritonServer, triton: Triton
) -> None:
    await ask(client, 10)
    calls = [asyncio.create_task(ask(client, 40 * n)) for n in range(4)]
    async with asyncio.timeout(60):
        while client.in_flight < len(calls):
            await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.wait(calls)
    given_up = len(regions(triton))
    await asyncio.gather(*(ask(client, 40 * n) for n in range(4)))
    assert len(regions(triton)) == given_up + 1 == 5


async def test_an_answer_larger_than_its_room_comes_through_the_socket(
    client: TritonServer, answers: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.consumer.inference.triton.scaled_shape", lambda _shape, _zoom: (SIDE, SIDE - 1))
    assert columns(await ask(client, 10)) == (10, 60)
    assert columns(await ask(client, 20)) == (20, 70)
    assert answers == []


async def test_small_blocks_go_through_the_socket(client: TritonServer, triton: Triton) -> None:
    small = np.full((64, 64, 1), 200, np.uint8)
    assert (await client.predict("Standin", "", small, WINDOW, 1.0, timeout=60)).any()
    assert regions(triton) == []


async def test_a_region_beyond_the_limit_is_not_made(
    client: TritonServer, triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LARGEST", 3 << 19)  # room for one
    together = await asyncio.gather(*(ask(client, 40 * n) for n in range(5)))
    assert [columns(maps) for maps in together] == [(40 * n, 40 * n + 50) for n in range(5)]
    assert len(regions(triton)) == 1


async def test_what_a_killed_process_left_is_let_go(client: TritonServer, triton: Triton) -> None:
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    name = f"{shared.PREFIX}-{dead.pid}-0"
    left = SharedMemory(name, create=True, size=4096)
    other = SharedMemory(f"other-{os.getpid()}", create=True, size=4096)
    try:
        async with InferenceServerClient(f"127.0.0.1:{triton.grpc_port}") as plain:
            await plain.register_system_shared_memory(name, f"/{name}", 4096)
            await plain.register_system_shared_memory(other.name, f"/{other.name}", 4096)
            await ask(client, 10)
            assert name not in regions(triton)
            assert other.name in regions(triton)
            await plain.unregister_system_shared_memory(other.name)
    finally:
        for each in (left, other):
            each.close()
            each.unlink()


async def test_a_server_that_started_again_is_told_of_new_regions(
    triton_environment: environment.Environment, tmp_path: Path
) -> None:
    repository, ports = copy_models(tmp_path / "models", "Standin"), free_ports(3)
    with running_triton(repository, tmp_path / "first", ports=ports):
        client = TritonServer([("127.0.0.1", ports[0])])
        await ask(client, 10)
    try:
        with running_triton(repository, tmp_path / "second", ports=ports) as second:
            assert columns(await ask(client, 30)) == (30, 80)
            assert columns(await ask(client, 60)) == (60, 110)
            assert len(regions(second)) == len(files()) == 1
    finally:
        await client.aclose()
    assert files() == []


class Elsewhere:
    """A server on an address of this host that has another shared memory, as in a container."""

    async def get_system_shared_memory_status(self, client_timeout: float) -> object:
        return type("Status", (), {"regions": {}})()

    async def register_system_shared_memory(self, *words: object, client_timeout: float) -> None:
        raise InferenceServerException("Unable to open shared memory region")


async def test_a_server_in_another_container_gets_the_block_through_the_socket() -> None:
    blocks = SharedBlocks(Elsewhere(), "127.0.0.1")  # type: ignore[arg-type]
    for _ in range(2):
        async with blocks.lend(block(0), "UINT8", SIDE**2) as loan:
            assert loan is None
    assert files() == []


async def test_no_room_in_shared_memory_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object, **_more: object) -> SharedMemory:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared, "SharedMemory", full)
    blocks = SharedBlocks(Elsewhere(), "127.0.0.1")  # type: ignore[arg-type]
    async with blocks.lend(block(0), "UINT8", SIDE**2) as loan:
        assert loan is None


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("triton", False)],
)
def test_only_a_loopback_address_is_taken_for_this_host(host: str, own: bool) -> None:
    assert is_this_host(host) is own
