"""What the consumer's client does when servers die, move, fill up or come back: against real servers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.consumer.inference.replicas import Address
from services.consumer.inference.triton import TritonServer
from services.triton import environment
from shared.errors import Retry
from tests.fixtures.triton import Triton, copy_models, free_ports, running_triton

BLOCK = np.full((64, 64, 1), 200, np.uint8)
WINDOW = np.array([[0, 255]], np.float32)


@pytest.fixture(scope="module")
def pair(
    triton_environment: environment.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Triton, Triton]]:
    """Two servers with the stand-in alone, which nobody looks after."""
    folder = tmp_path_factory.mktemp("pair")
    repository = copy_models(folder / "models", "Standin")
    with (
        running_triton(repository, folder / "one", "--watch-seconds", "0") as one,
        running_triton(repository, folder / "two", "--watch-seconds", "0") as two,
    ):
        yield one, two


class Names:
    """A name server that says what a test wants."""

    def __init__(self, *ports: int) -> None:
        self.addresses: list[Address] = [("127.0.0.1", port) for port in ports]

    async def __call__(self, _host: str, _port: int) -> list[Address]:
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


@pytest.fixture
async def names(pair: tuple[Triton, Triton]) -> Names:
    return Names(pair[0].grpc_port)


@pytest.fixture
async def client(names: Names) -> AsyncIterator[TritonServer]:
    server = TritonServer([("triton", 8001)], names)
    yield server
    await server.aclose()


async def ask(client: TritonServer, timeout: float = 60.0, reasons: list[str] | None = None) -> np.ndarray:
    report = None if reasons is None else reasons.append
    return await client.predict("Standin", "", BLOCK, WINDOW, 1.0, timeout=timeout, on_retry=report)


def served(server: Triton) -> int:
    stats = server.http("models/Standin/stats")["model_stats"][0]
    return int(stats["inference_stats"]["success"]["count"])


async def counted(pair: tuple[Triton, Triton], before: tuple[int, int], calls: int) -> tuple[int, int]:
    """Return how many calls each server has answered since; they are counted when their whole batch is done."""
    async with asyncio.timeout(30):
        while True:
            counts = served(pair[0]) - before[0], served(pair[1]) - before[1]
            if sum(counts) >= calls:
                return counts
            await asyncio.sleep(0)


async def test_a_dead_model_process_is_mended_and_the_call_succeeds(
    client: TritonServer, pair: tuple[Triton, Triton]
) -> None:
    reasons: list[str] = []
    await ask(client)
    for each in pair[0].stubs("Standin"):
        os.kill(each, signal.SIGKILL)
    maps = await ask(client, reasons=reasons)
    assert maps.any()
    assert reasons
    assert "tub process" in reasons[0]


async def test_many_calls_at_the_time_of_the_death_mend_it_once(
    client: TritonServer, pair: tuple[Triton, Triton]
) -> None:
    for each in pair[0].stubs("Standin"):
        os.kill(each, signal.SIGKILL)
    before = pair[0].log.read_text().count("successfully loaded 'Standin'")
    answers = await asyncio.gather(*(ask(client) for _ in range(12)))
    assert all(maps.any() for maps in answers)
    assert pair[0].log.read_text().count("successfully loaded 'Standin'") - before <= 2


async def test_a_model_process_that_dies_with_half_a_batch_answered_costs_no_call(
    client: TritonServer, pair: tuple[Triton, Triton]
) -> None:
    await ask(client)
    calls = [asyncio.create_task(ask(client)) for _ in range(24)]
    await asyncio.wait(calls[4:], return_when=asyncio.FIRST_COMPLETED)
    for each in pair[0].stubs("Standin"):
        os.kill(each, signal.SIGKILL)
    assert all(maps.any() for maps in await asyncio.gather(*calls))
    assert pair[0].process.poll() is None


async def test_a_network_that_fails_is_a_retry_and_the_server_lives_on(
    triton_environment: environment.Environment, tmp_path: Path
) -> None:
    repository = copy_models(tmp_path / "models", "Standin")
    net = repository / "Standin" / "1" / "net.py"
    fails = '        if batch.max() == 0:\n            raise RuntimeError("out of memory")\n        return batch\n'
    net.write_text(net.read_text().replace("        return batch\n", fails))
    with running_triton(repository, tmp_path / "log") as server:
        client = TritonServer([("127.0.0.1", server.grpc_port)])
        try:
            empty = [client.predict("Standin", "", 0 * BLOCK, WINDOW, 1.0, timeout=60) for _ in range(3)]
            answers = await asyncio.gather(*empty, ask(client), return_exceptions=True)
            assert all(isinstance(answer, Retry) for answer in answers[:3])
            assert "RuntimeError: out of memory" in str(answers[0])
            assert (await ask(client)).any()
        finally:
            await client.aclose()


async def test_a_new_replica_gets_its_share_and_a_gone_one_nothing(
    client: TritonServer, names: Names, pair: tuple[Triton, Triton]
) -> None:
    one, two = pair
    await ask(client)
    names.addresses = [("127.0.0.1", one.grpc_port), ("127.0.0.1", two.grpc_port)]
    await client._replicas.refresh()
    before = served(one), served(two)
    await asyncio.gather(*(ask(client) for _ in range(20)))
    counts = await counted(pair, before, 20)
    assert min(counts) >= 5

    names.addresses = [("127.0.0.1", two.grpc_port)]
    await client._replicas.refresh()
    before = served(one), served(two)
    await asyncio.gather(*(ask(client) for _ in range(6)))
    assert await counted(pair, before, 6) == (0, 6)


async def test_a_dead_replica_is_left_at_once(client: TritonServer, names: Names, pair: tuple[Triton, Triton]) -> None:
    (dead,) = free_ports(1)
    names.addresses = [("127.0.0.1", dead), ("127.0.0.1", pair[1].grpc_port)]
    reasons: list[str] = []
    await asyncio.gather(*(ask(client, reasons=reasons) for _ in range(20)))
    # a call or two of each that were under way together may have hit it, later ones know
    again: list[str] = []
    await asyncio.gather(*(ask(client, reasons=again) for _ in range(5)))
    assert len(again) <= 5
    assert all(maps.any() for maps in await asyncio.gather(*(ask(client) for _ in range(3))))


async def test_nobody_there_is_a_retry_within_the_time_given(names: Names, client: TritonServer) -> None:
    names.addresses = [("127.0.0.1", free_ports(1)[0])]
    began = asyncio.get_running_loop().time()
    with pytest.raises(Retry, match="The model server gave no result within"):
        await ask(client, timeout=1.0)
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_name_without_an_address_is_a_retry(names: Names, client: TritonServer) -> None:
    names.addresses = []
    with pytest.raises(Retry, match=r"gave no result within .*triton:8001 has no address"):
        await ask(client, timeout=0.5)


async def test_a_call_waits_for_a_server_that_is_on_its_way(
    names: Names, client: TritonServer, pair: tuple[Triton, Triton]
) -> None:
    names.addresses, reasons = [], list[str]()
    waiting = asyncio.create_task(ask(client, reasons=reasons))
    while not reasons:
        await asyncio.sleep(0)
    names.addresses = [("127.0.0.1", pair[0].grpc_port)]
    assert (await waiting).any()


async def test_a_cancelled_call_is_no_longer_in_flight(client: TritonServer) -> None:
    await ask(client)
    call = asyncio.create_task(ask(client))
    while not client.in_flight:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.in_flight == 0


async def test_a_server_that_starts_again_is_found_again(
    triton_environment: environment.Environment, tmp_path: Path
) -> None:
    repository, ports = copy_models(tmp_path / "models", "Standin"), free_ports(3)
    reasons: list[str] = []
    with running_triton(repository, tmp_path / "first", ports=ports) as first:
        client = TritonServer([("127.0.0.1", first.grpc_port)])
        await ask(client)
    waiting = asyncio.create_task(ask(client, reasons=reasons))
    while not reasons:
        await asyncio.sleep(0)
    try:
        with running_triton(repository, tmp_path / "second", ports=ports):
            assert (await waiting).any()
    finally:
        await client.aclose()
