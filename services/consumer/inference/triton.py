"""Predictions from Triton over gRPC, with retries, deadlines and mending; see DESIGN, Inference."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from services.consumer.inference.protocol import Models, OnRetry, not_found
from services.consumer.inference.replicas import Address, Replica, Replicas, Resolve
from services.consumer.inference.shared import SMALLEST, Loan
from services.consumer.inference.sharing import OnUsed
from shared.dense import ModelCard, parse_card
from shared.dense.normalise import scaled_shape
from shared.errors import InvalidInput, NotFound, Retry
from shared.lifecycle import ended
from shared.telemetry.traces import current_traceparent

KINDS = {"uint8": "UINT8", "uint16": "UINT16", "float32": "FP32"}
CARD_SECONDS = 60.0  # how long a card is trusted while the list of models and versions stays as it is
SOUND_SECONDS = 5.0  # how long a model that has predicted something is taken for sound
ASK_SECONDS = 15.0  # how long a refusal to load a model is believed
SILENCE = 20.0  # seconds without an answer to anybody, or 20 times what calls took lately, after which one is given up
MOST_PATIENCE = 10.0  # times its own that a call waits while the servers answer others
LOAD_SECONDS = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between tries
FAULTS_IN_A_ROW = 3  # internal errors of the model after which the job is handed back
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class TritonServer:
    """A :class:`~services.consumer.inference.protocol.ModelServer` of one or more Triton replicas."""

    def __init__(self, endpoints: Sequence[Address], resolve: Resolve | None = None) -> None:
        self._replicas = Replicas(endpoints, resolve)
        self._cards: dict[tuple[str, str], tuple[float, ModelCard]] = {}
        self._served: Models = {}
        self._predicted: dict[str, float] = {}  # when each model last did, by the loop's clock
        self._refused: dict[tuple[Address, str, str], float] = {}
        self._answered = -math.inf  # when a server last answered, by the loop's clock

    @property
    def in_flight(self) -> int:
        return self._replicas.outstanding

    async def models(self) -> Models:
        async def ask(replica: Replica, limit: float) -> Models:
            index = await replica.client.get_model_repository_index(client_timeout=limit)
            ready = [entry for entry in index.models if entry.state == "READY" and entry.version]
            versions: Models = {}
            for entry in sorted(ready, key=lambda e: (e.name, int(e.version))):
                versions.setdefault(entry.name, []).append(entry.version)
            return versions

        served = await self._try(ask, "", "", timeout=10.0)
        if served != self._served:
            self._served = served
            self._cards.clear()  # a new version may be the one that is meant where none is named
        return served

    async def card(self, model: str, version: str = "", *, timeout: float = 30.0) -> ModelCard:
        now = asyncio.get_running_loop().time()
        known = self._cards.get((model, version))
        if known is not None and now - known[0] < CARD_SECONDS:
            return known[1]
        if known is not None:
            self._cards[model, version] = (now, known[1])  # one asks, the others go on with what is known

        async def ask(replica: Replica, limit: float) -> ModelCard:
            about = InferInput("about", [1, 1], "UINT8").set_data_from_numpy(np.ones((1, 1), np.uint8))
            outputs = [InferRequestedOutput("card")]
            result = await replica.client.infer(model, [about], version, outputs, client_timeout=limit)
            return parse_card(result.as_numpy("card").item().decode(), f"the card of {model}")

        try:
            card = await self._try(ask, model, version, timeout=timeout)
        except BaseException:
            self._cards.pop((model, version), None)
            raise
        self._cards[model, version] = (now, card)
        return card

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
        kind, others = _kind(block), _small_inputs(window, zoom)
        headers = {"traceparent": trace} if (trace := current_traceparent()) else None
        part: list[float] = []
        size = kinds * math.prod(scaled_shape((block.shape[0], block.shape[1]), float(np.float32(zoom))))

        async def ask(replica: Replica, limit: float) -> NDArray[np.uint8]:
            async with replica.room.reserve(block.nbytes + size), replica.blocks.lend(block, kind, size) as loan:
                inputs = [loan.image if loan else await _through_socket(block, kind), *others]
                outputs = [loan.output("maps") if loan else InferRequestedOutput("maps")]
                if replica.tells_seconds:
                    outputs.append(InferRequestedOutput("seconds"))
                with replica.time.request(part.append):
                    result = await replica.client.infer(
                        model, inputs, version, outputs, client_timeout=limit, headers=headers
                    )
                maps = await maps_of(result, loan, model, kinds)
            if on_used is not None:
                on_used(seconds_of(result, part[-1]))
            return maps

        maps = await self._try(ask, model, version, timeout=timeout, on_retry=on_retry)
        self._predicted[model] = asyncio.get_running_loop().time()
        return maps

    async def check(self, model: str, version: str = "", *, timeout: float = 10.0) -> None:
        if asyncio.get_running_loop().time() - self._predicted.get(model, -math.inf) < SOUND_SECONDS:
            return  # shown by an inference that was of use; a further one would only part the batch that waits
        try:
            channels = len((await self.card(model, version, timeout=timeout)).channels)
            window = np.tile(np.array([0, 1], np.float32), (channels, 1))
            await self.predict(model, version, np.zeros((32, 32, channels), np.uint8), window, 1.0, timeout=timeout)
        except NotFound as error:
            raise Retry(str(error)) from error

    async def aclose(self) -> None:
        await self._replicas.aclose()

    async def _try(
        self,
        ask: Callable[[Replica, float], Awaitable[T]],
        model: str,
        version: str,
        *,
        timeout: float,
        on_retry: OnRetry | None = None,
    ) -> T:
        """Ask replicas until one answers, none has answered anybody for ``timeout`` s, or a retry is of no use.

        Servers that answer others have too much to do: whoever gave up then would only come back and ask once more.
        """
        loop = asyncio.get_running_loop()
        began, tries, faults = loop.time(), 0, 0
        reason = "no replica answered"

        def left() -> float:
            end = max(began, self._answered) + timeout
            return min(end, began + MOST_PATIENCE * timeout) - loop.time()

        while left() > 0:
            try:
                replica = await self._replicas.pick(loop.time())
                silence = min(timeout, max(SILENCE, 20 * replica.usual))
                return await self._ask(replica, ask, silence, began + MOST_PATIENCE * timeout - loop.time())
            except InferenceServerException as error:
                reason = _message(error)
                faults += _is_fault(error)
                if faults >= FAULTS_IN_A_ROW:
                    break
                await self._react(error, replica, model, version)
            except Retry as error:  # no address at present: a server may be on its way
                reason = str(error).rstrip(".")
            tries += 1
            if on_retry is not None:
                on_retry(reason)
            pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10))
            await asyncio.sleep(min(pause, max(0.0, left())))
        spent = loop.time() - began
        raise Retry(f"The model server gave no result within {spent:.0f} s: {reason}.", after=LONGEST_PAUSE)

    async def _ask(
        self, replica: Replica, ask: Callable[[Replica, float], Awaitable[T]], silence: float, longest: float
    ) -> T:
        """Call a replica; give up once it has answered nobody for ``silence`` s, or this call not for ``longest`` s.

        While it answers others this one's turn comes: whoever gave up would have its work done in vain, and ask again.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        with replica.busy():
            call = asyncio.ensure_future(ask(replica, longest))
            try:
                while not call.done():
                    left = min(max(began, replica.heard) + silence, began + longest) - loop.time()
                    if left <= 0:
                        replica.needs_longer(silence)
                        raise InferenceServerException(
                            f"it answered nobody for {silence:.0f} s", status="StatusCode.DEADLINE_EXCEEDED"
                        )
                    await asyncio.wait({call}, timeout=left)
                answer = call.result()
            finally:
                await ended(call)
        self._answered = replica.heard = loop.time()
        replica.answered(self._answered - began)
        return answer

    async def _react(self, error: InferenceServerException, replica: Replica, model: str, version: str) -> None:
        """Do what makes a further try worth while, or raise what ends the tries."""
        code, message = _code(error), _message(error)
        now = asyncio.get_running_loop().time()
        if code == "RESOURCE_EXHAUSTED":
            raise InvalidInput(f"The model server refuses a request as too large: {message}.", code="too-large")
        if "shared memory region" in message:  # the server started again and knows it no more
            replica.blocks.forget()
        elif "shared memory size" in message:
            replica.blocks.refuse_answers()
        elif "output 'seconds'" in message:
            replica.tells_seconds = False
        elif code in ("INVALID_ARGUMENT", "UNIMPLEMENTED"):
            raise InvalidInput(message, code="does-not-fit-model")
        elif code == "NOT_FOUND":
            await self._load(replica, model, version)
        elif _is_broken_stub(error):
            await self._mend(replica, model, now)
        elif code == "DEADLINE_EXCEEDED" or (code == "UNAVAILABLE" and not _is_full(error)):
            replica.silent(now)
        _log.warning("inference-retried", model=model, replica=replica.target, code=code, reason=message)

    async def _load(self, replica: Replica, model: str, version: str) -> None:
        """Ask once for a model that is not there; raises NotFound if that does not help."""
        loop = asyncio.get_running_loop()
        async with replica.mending:
            if self._refused.get((replica.address, model, version), 0.0) < loop.time():
                try:
                    await replica.client.load_model(model, client_timeout=LOAD_SECONDS)
                except InferenceServerException as error:
                    _log.info("model-not-loaded", model=model, reason=_message(error))
                if await replica.client.is_model_ready(model, version, client_timeout=10.0):
                    return
                self._refused = {k: t for k, t in self._refused.items() if t > loop.time()}
                self._refused[replica.address, model, version] = loop.time() + ASK_SECONDS
        raise not_found(model, version, await self.models())

    async def _mend(self, replica: Replica, model: str, noticed: float) -> None:
        """Unload and load a model whose process has died: Triton calls it ready, and every call fails."""
        async with replica.mending:
            if replica.mended.get(model, 0.0) > noticed:
                return  # another task did it while this one waited
            _log.warning("model-process-dead", model=model, replica=replica.target)
            try:
                await replica.client.unload_model(model, client_timeout=LOAD_SECONDS)
                await replica.client.load_model(model, client_timeout=LOAD_SECONDS)
            except InferenceServerException as error:
                _log.warning("model-not-mended", model=model, replica=replica.target, reason=_message(error))
            replica.mended[model] = asyncio.get_running_loop().time()


def _kind(block: NDArray[Any]) -> str:
    name = block.dtype.name
    if name not in KINDS or block.ndim != 3:
        raise InvalidInput(
            f"A block must be (H, W, C) of {', '.join(KINDS)}, not {block.shape} of {name}.", code="does-not-fit-model"
        )
    return KINDS[name]


async def maps_of(result: Any, loan: Loan | None, model: str, kinds: int) -> NDArray[np.uint8]:
    """The answer, uint8 (K, h, w), from where it was put; raises InvalidInput if it is another one."""
    if loan is None or not loan.room:
        maps = result.as_numpy("maps")
        _check_maps(model, kinds, None if maps is None else (maps.dtype.name, *maps.shape))
        first: NDArray[np.uint8] = maps[0]
        return first
    told = result.get_output("maps")
    shape = [] if told is None else [int(length) for length in told.shape]
    _check_maps(model, kinds, None if told is None else (told.datatype.lower(), *shape))
    if math.prod(shape) > loan.room:
        raise InvalidInput(f"The model {model} answers more than it said.", code="does-not-fit-model")
    return await asyncio.to_thread(loan.read, shape[1:])


def _check_maps(model: str, kinds: int, told: tuple[Any, ...] | None) -> None:
    """Raise InvalidInput where the type and shape of an answer, or None, are none of maps."""
    sound = told is not None and len(told) == 5 and told[:2] == ("uint8", 1) and min(told[2:]) > 0
    if not sound or (kinds and told is not None and told[2] != kinds):
        said = "nothing" if told is None else f"{told[0]} {told[1:]}"
        raise InvalidInput(
            f"The model {model} answers {said}, where {kinds or 'some'} maps of uint8 are wanted.",
            code="does-not-fit-model",
        )


def seconds_of(result: Any, measured: float) -> float:
    """The server's seconds that were the request's: as it says, else as they were measured here."""
    told = result.as_numpy("seconds")
    if told is None or told.size != 1:
        return measured
    seconds = float(told.item())
    return seconds if seconds >= 0 and math.isfinite(seconds) else measured


async def _through_socket(block: NDArray[Any], kind: str) -> InferInput:
    if block.nbytes < SMALLEST:  # copied sooner than a thread is woken
        return _input(block, kind)
    return await asyncio.to_thread(_input, block, kind)


def _input(block: NDArray[Any], kind: str) -> InferInput:
    """The block in the message itself; copies it."""
    return InferInput(block.dtype.name, [1, *block.shape], kind).set_data_from_numpy(
        np.ascontiguousarray(block[np.newaxis])
    )


def _small_inputs(window: NDArray[np.float32], zoom: float) -> list[InferInput]:
    parts = (("window", np.asarray(window, np.float32)[np.newaxis]), ("zoom", np.full((1, 1), zoom, np.float32)))
    return [InferInput(n, list(v.shape), "FP32").set_data_from_numpy(np.ascontiguousarray(v)) for n, v in parts]


def _code(error: InferenceServerException) -> str:
    return str(error.status()).removeprefix("StatusCode.")


def _message(error: InferenceServerException) -> str:
    return str(error.message() or error).strip().rstrip(".")


def _is_broken_stub(error: InferenceServerException) -> bool:
    return _code(error) in ("INTERNAL", "UNAVAILABLE") and "tub process" in _message(error)


def _is_full(error: InferenceServerException) -> bool:
    return "queue" in _message(error).lower()


def _is_fault(error: InferenceServerException) -> bool:
    return _code(error) in ("INTERNAL", "UNKNOWN") and not _is_broken_stub(error)
