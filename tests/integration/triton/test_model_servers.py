"""What every model server must do: the same tests against Triton and against ONNX Runtime in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.consumer.inference import ModelServer, open_model_server
from shared.dense import predict, read_card
from shared.dense.weights import load_net
from shared.errors import InvalidInput, NotFound
from tests.fixtures.triton import Triton

NUCLEI = "NuclearSegmentation"


@pytest.fixture(params=["triton", "onnx"])
async def server(request: pytest.FixtureRequest, model_repository: Path) -> AsyncIterator[ModelServer]:
    url = request.getfixturevalue("triton").url if request.param == "triton" else f"onnx://{model_repository}"
    opened = open_model_server(url)
    yield opened
    await opened.aclose()


def block(kind: str = "uint16", shape: tuple[int, ...] = (150, 210, 1)) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.random(shape) ** 4 * 200).astype(kind)


def window(channels: int = 1) -> np.ndarray:
    return np.tile(np.array([2.0, 180.0], np.float32), (channels, 1))


async def test_lists_its_models_with_their_versions(server: ModelServer) -> None:
    models = await server.models()
    assert models["Standin"] == ["1"]
    assert "1" in models[NUCLEI]


async def test_hands_out_the_card_of_the_repository(server: ModelServer, model_repository: Path) -> None:
    card = await server.card(NUCLEI)
    own = read_card(model_repository / NUCLEI)
    assert card.version == (await server.models())[NUCLEI][-1]
    assert (card.channels, card.tile, card.postprocessing) == (own.channels, own.tile, own.postprocessing)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.7])
async def test_predicts_what_the_network_says(
    server: ModelServer, model_repository: Path, kind: str, zoom: float
) -> None:
    card, net = read_card(model_repository / NUCLEI), load_net(model_repository / NUCLEI / "1", 1)
    expected = predict(block(kind), window(), zoom, card, net)

    maps = await server.predict(NUCLEI, "1", block(kind), window(), zoom, timeout=60)

    assert maps.dtype == np.uint8
    assert maps.shape == expected.shape == (1, round(150 * zoom), round(210 * zoom))
    # numerics differ by threads and library versions: a grey level, or a pixel at the threshold
    assert np.mean(np.abs(maps.astype(int) - expected) > 2) < 0.002


async def test_many_blocks_at_once_do_not_get_mixed_up(server: ModelServer) -> None:
    blocks = [np.zeros((40 + 8 * n, 64, 1), np.uint8) for n in range(12)]
    for number, each in enumerate(blocks):
        each[5 + number : 9 + number] = 180
    answers = await asyncio.gather(*(server.predict("Standin", "", each, window(), 1.0, timeout=60) for each in blocks))
    for number, (each, maps) in enumerate(zip(blocks, answers, strict=True)):
        assert maps.shape == (1, *each.shape[:2])
        assert (maps[0] > 0).any(axis=1).nonzero()[0].tolist() == [5 + number + row for row in range(4)]
    assert server.in_flight == 0


async def test_unknown_model_names_those_there_are(server: ModelServer) -> None:
    with pytest.raises(NotFound, match=r"no model 'Nobody'; the models are: .*NuclearSegmentation.*Standin"):
        await server.predict("Nobody", "", block(), window(), 1.0, timeout=30)
    with pytest.raises(NotFound, match="no model 'Nobody'"):
        await server.card("Nobody")


async def test_unknown_version_names_those_there_are(server: ModelServer) -> None:
    with pytest.raises(NotFound, match=r"The model Standin has no version 77; it has: 1"):
        await server.predict("Standin", "77", block(), window(), 1.0, timeout=30)


async def test_wrong_channel_count_is_the_users_fault(server: ModelServer) -> None:
    with pytest.raises(InvalidInput, match=r"takes images of 1 channel \(nuclear\)"):
        await server.predict(NUCLEI, "", block(shape=(64, 64, 3)), window(3), 1.0, timeout=30)


async def test_wrong_dtype_is_named(server: ModelServer) -> None:
    with pytest.raises(InvalidInput, match="int64"):
        await server.predict(NUCLEI, "", block("int64"), window(), 1.0, timeout=30)


async def test_check_is_a_real_inference(server: ModelServer) -> None:
    await server.check(NUCLEI)


async def test_two_clients_are_told_their_parts_of_the_servers_time(triton: Triton) -> None:
    """Each sees the server busy all the time; only the server knows whose it was."""
    clients = [open_model_server(triton.url) for _ in range(2)]
    used: list[float] = []
    try:
        await asyncio.gather(*(client.card(NUCLEI) for client in clients))
        began = time.monotonic()
        requests = [
            client.predict(NUCLEI, "1", block(), window(), 1.0, timeout=60, on_used=used.append)
            for client in clients
            for _ in range(6)
        ]
        await asyncio.gather(*requests)
        elapsed = time.monotonic() - began
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))
    assert len(used) == 12
    assert all(part > 0 for part in used)
    assert sum(used) <= elapsed


async def test_a_server_that_does_not_tell_seconds_is_watched_instead(
    triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older server refuses an output that it does not know."""
    asked: list[list[str]] = []
    infer = InferenceServerClient.infer

    async def refuse(
        self: InferenceServerClient, model: str, inputs: Any, version: str, outputs: Any, **how: Any
    ) -> Any:
        asked.append([output.name() for output in outputs])
        if "seconds" in asked[-1]:
            raise InferenceServerException(
                f"unexpected inference output 'seconds' for model {model}", "StatusCode.INVALID_ARGUMENT"
            )
        return await infer(self, model, inputs, version, outputs, **how)

    monkeypatch.setattr(InferenceServerClient, "infer", refuse)
    client, used = open_model_server(triton.url), []
    try:
        for _ in range(2):
            await client.predict("Standin", "1", block(), window(), 1.0, timeout=60, on_used=used.append)
    finally:
        await client.aclose()
    assert asked == [["maps", "seconds"], ["maps"], ["maps"]]
    assert len(used) == 2
    assert all(part > 0 for part in used)
