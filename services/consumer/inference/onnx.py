"""The models of a repository run in this process, for machines on which Triton does not."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.inference.protocol import Models, OnRetry, not_found
from services.consumer.inference.sharing import OnUsed, SharedTime
from shared.dense import ModelCard, Net, predict, read_card
from shared.dense.weights import load_net
from shared.errors import InvalidInput, Misconfigured, NotFound, Retry

KINDS = ("uint8", "uint16", "float32")
BLOCKS_AT_ONCE = 2  # one is cut and blended while the other is in the network


class OnnxServer:
    """A :class:`~services.consumer.inference.protocol.ModelServer` without a server.

    A new version is found at the next call; weights are loaded when first used, and again when their file changes.
    """

    def __init__(self, repository: Path, *, threads: int = 0) -> None:
        if not repository.is_dir():
            raise Misconfigured(f"The model repository {repository} is not a folder.")
        self._repository = repository
        self._threads = threads or os.cpu_count() or 1
        self._nets: dict[tuple[str, str], tuple[tuple[float, ...], Net]] = {}
        self._loading = threading.Lock()
        self._pool = ThreadPoolExecutor(BLOCKS_AT_ONCE, thread_name_prefix="inference")
        self._time = SharedTime()
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def models(self) -> Models:
        return await asyncio.to_thread(self._list)

    async def card(self, model: str, version: str = "", *, timeout: float = 30.0) -> ModelCard:  # noqa: ARG002  # nothing to wait for
        return await asyncio.to_thread(self._card, model, version)

    async def predict(
        self,
        model: str,
        version: str,
        block: NDArray[Any],
        window: NDArray[np.float32],
        zoom: float,
        *,
        timeout: float,
        kinds: int = 0,  # noqa: ARG002 the answer goes nowhere
        on_retry: OnRetry | None = None,  # noqa: ARG002 there is nobody else to ask
        on_used: OnUsed | None = None,
    ) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        self._in_flight += 1
        try:
            with self._time.request(on_used):
                async with asyncio.timeout(timeout):
                    return await loop.run_in_executor(self._pool, self._predict, model, version, block, window, zoom)
        except TimeoutError as error:
            raise Retry(f"The model gave no result within {timeout:.0f} s.") from error
        finally:
            self._in_flight -= 1

    async def check(self, model: str, version: str = "", *, timeout: float = 10.0) -> None:
        try:
            channels = len((await self.card(model, version)).channels)
            window = np.tile(np.array([0, 1], np.float32), (channels, 1))
            await self.predict(model, version, np.zeros((32, 32, channels), np.uint8), window, 1.0, timeout=timeout)
        except (NotFound, Misconfigured) as error:
            raise Retry(str(error)) from error

    async def aclose(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _predict(
        self, model: str, version: str, block: NDArray[Any], window: NDArray[np.float32], zoom: float
    ) -> NDArray[np.uint8]:
        if block.dtype.name not in KINDS:
            raise InvalidInput(f"A block must be of {', '.join(KINDS)}, not {block.dtype}.", code="does-not-fit-model")
        card = self._card(model, version)
        return predict(block, window, zoom, card, self._net(model, card.version))

    def _card(self, model: str, version: str) -> ModelCard:
        models = self._list()
        versions = models.get(model, [])
        chosen = version or (versions[-1] if versions else "")
        if chosen not in versions:
            raise not_found(model, version, models)
        return dataclasses.replace(read_card(self._repository / model, chosen), version=chosen)

    def _net(self, model: str, version: str) -> Net:
        folder = self._repository / model / version
        with self._loading:
            state = tuple(sorted(each.stat().st_mtime for each in folder.iterdir()))
            known = self._nets.get((model, version))
            if known is None or known[0] != state:
                known = self._nets[model, version] = (state, load_net(folder, self._threads))
            return known[1]

    def _list(self) -> Models:
        """Folders with a card, and the numbered folders in them."""
        result: Models = {}
        for card in sorted(self._repository.glob("*/card.yaml")):
            versions = [each.name for each in card.parent.iterdir() if each.is_dir() and each.name.isdecimal()]
            if versions:
                result[card.parent.name] = sorted(versions, key=int)
        return result
