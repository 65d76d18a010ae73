"""What every model server offers to the pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.consumer.inference.sharing import OnUsed
from shared.dense import ModelCard
from shared.errors import NotFound

Models = dict[str, list[str]]
OnRetry = Callable[[str], None]


class ModelServer(Protocol):
    """A place where models run. Safe to use from many tasks of one event loop."""

    @property
    def in_flight(self) -> int:
        """How many predictions are under way."""

    async def models(self) -> Models:
        """The versions of each model that can be used now, oldest first. Raises Retry if the server is away."""

    async def card(self, model: str, version: str = "", *, timeout: float = 30.0) -> ModelCard:
        """The card of a model, its newest version if none is named; ``card.version`` says which it is.

        Raises NotFound, naming the models there are, or Retry.
        """

    async def predict(
        self,
        model: str,
        version: str,
        block: NDArray[Any],
        window: NDArray[np.float32],
        zoom: float,
        *,
        timeout: float,
        kinds: int = 0,
        on_retry: OnRetry | None = None,
        on_used: OnUsed | None = None,
    ) -> NDArray[np.uint8]:
        """The maps of one block, as ``shared.dense.predict`` gives them: uint8 (K, h, w).

        ``block`` is (H, W, C) in uint8, uint16 or float32; ``window`` float32 (C, 2); ``timeout`` is how many seconds
        to wait and try while no server answers anybody; ``kinds`` is K where it is known, so that room can be made for
        the answer; ``on_retry`` is called with the reason before each further try, ``on_used`` at the answer with the
        server's seconds that were this request's.

        Raises InvalidInput if the block does not fit the model, NotFound if there is no such model, Retry if there
        was no answer in time.
        """

    async def check(self, model: str, version: str = "", *, timeout: float = 10.0) -> None:
        """A real inference on a small block; raises Retry if it does not succeed."""

    async def aclose(self) -> None:
        """Let go of connections and threads. Nothing may be asked afterwards."""


def not_found(model: str, version: str, models: Models) -> NotFound:
    """The error for a model or version that does not exist, naming those that do."""
    versions = models.get(model)
    if versions:
        return NotFound(
            f"The model {model} has no version {version}; it has: {', '.join(versions)}.", code="unknown-model"
        )
    known = ", ".join(sorted(models)) or "none"
    return NotFound(f"There is no model {model!r}; the models are: {known}.", code="unknown-model")
