"""A busy model server is asked nothing that is known, as odd requests part the batches of others, and not too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.consumer.inference import replicas, triton
from services.consumer.inference.triton import TritonServer
from shared.dense import ModelCard, ObjectMaps


class Asked(TritonServer):
    """A client whose server answers at once; ``of`` says how often each model was asked, "" for the list."""

    def __init__(self) -> None:
        super().__init__([("127.0.0.1", 1)])
        self.of: dict[str, int] = {}
        self.listed = {"one": ["1"]}

    async def _try(self, ask: Any, model: str, version: str, **_options: Any) -> Any:
        self.of[model] = self.of.get(model, 0) + 1
        if not model:
            return {name: list(versions) for name, versions in self.listed.items()}
        if ".predict." in ask.__qualname__:
            return np.zeros((1, 32, 32), np.uint8)
        return ModelCard(model, ("nuclear",), 0.5, (ObjectMaps("nuclear", 0),), "", "", self.listed["one"][-1])


@pytest.fixture
async def server() -> AsyncIterator[Asked]:
    server = Asked()
    yield server
    await server.aclose()


async def predict(server: TritonServer) -> None:
    window = np.array([[0, 1]], np.float32)
    await server.predict("one", "1", np.zeros((32, 32, 1), np.uint8), window, 1.0, timeout=1.0)


async def test_a_card_is_asked_for_once_while_the_models_stay_as_they_are(server: Asked) -> None:
    for _ in range(3):
        await server.models()
        assert (await server.card("one")).version == "1"
    assert server.of["one"] == 1


async def test_a_new_version_is_seen_with_the_next_list_of_models(server: Asked) -> None:
    await server.models()
    await server.card("one")
    server.listed["one"].append("2")
    await server.models()
    assert (await server.card("one")).version == "2"


async def test_a_model_that_has_predicted_something_need_not_show_it_again(
    server: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await predict(server)
    await server.check("one")
    assert server.of["one"] == 1
    monkeypatch.setattr(triton, "SOUND_SECONDS", 0.0)
    await server.check("one")
    assert server.of["one"] == 3  # its card, and an inference


class Result:
    """An answer through the socket."""

    def as_numpy(self, _name: str) -> Any:
        return np.zeros((1, 1, 32, 32), np.uint8)


async def test_only_so_many_bytes_are_under_way_to_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[int] = []

    async def infer(_client: object, *_words: object, **_options: object) -> Result:
        under_way.append(under_way[-1] + 1 if under_way else 1)
        await asyncio.sleep(0)
        under_way.append(under_way[-1] - 1)
        return Result()

    async def one(host: str, port: int) -> list[tuple[str, int]]:
        return [(host, port)]

    monkeypatch.setattr(replicas, "ROOM", 3 * 32 * 32)
    monkeypatch.setattr(replicas.InferenceServerClient, "infer", infer)
    server = TritonServer([("10.0.0.1", 1)], one)
    await asyncio.gather(*(predict(server) for _ in range(20)))
    await server.aclose()
    assert (max(under_way), under_way[-1], len(under_way)) == (3, 0, 40)
