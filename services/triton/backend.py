"""The Triton backend ``dense``: runs inside the server, one request is one block of an image.

Installed as a Python-based backend, so that a model is no more than weights, a card and two lines of config.pbtxt.

Inputs, each with a batch dimension of 1 in front: one of ``uint8``, ``uint16``, ``float32`` (H, W, C), with ``window``
float32 (C, 2) and ``zoom`` float32 (1); or ``about`` uint8 (1) alone. Outputs: ``maps`` uint8 (K, h, w) and
``seconds`` float32 (1), the request's part of the time that its batch took; or, for ``about``, ``card`` with the
model's card as JSON.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from numpy.typing import NDArray

from shared.dense import Predictor, Request, check, read_card
from shared.dense.weights import load_net
from shared.errors import InvalidInput

BLOCKS = {"uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "float32": "TYPE_FP32"}
MAX_BATCH = 16


class TritonPythonModel:
    """The class that Triton's Python backend looks for; one object per model instance."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in all that every dense model has in common, so that its config.pbtxt need not."""
        for name, kind in BLOCKS.items():
            config.add_input({"name": name, "data_type": kind, "dims": [-1, -1, -1], "optional": True})
        config.add_input({"name": "window", "data_type": "TYPE_FP32", "dims": [-1, 2], "optional": True})
        config.add_input({"name": "zoom", "data_type": "TYPE_FP32", "dims": [1], "optional": True})
        config.add_input({"name": "about", "data_type": "TYPE_UINT8", "dims": [1], "optional": True})
        config.add_output({"name": "maps", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1]})
        config.add_output({"name": "seconds", "data_type": "TYPE_FP32", "dims": [1]})
        config.add_output({"name": "card", "data_type": "TYPE_STRING", "dims": [1]})
        config.set_max_batch_size(MAX_BATCH)
        config.set_dynamic_batching()
        for each in config.as_dict()["input"]:
            each["allow_ragged_batch"] = True  # blocks of different sizes wait in one queue
        return config

    def initialize(self, args: dict[str, str]) -> None:
        model = Path(args["model_repository"])
        version = args["model_version"]
        self._card = dataclasses.replace(read_card(model, version), version=version)
        self._net = load_net(model / version, int(os.environ.get("KIOSK_TRITON_THREADS", "0")))
        self._predictor = Predictor(self._card, self._run)
        self._family = pb.MetricFamily(  # kept: a metric counts only as long as its family lives
            name="kiosk_network_seconds",
            description="Seconds in which the network itself ran, without what is done before and after it.",
            kind=pb.MetricFamily.COUNTER,
        )
        self._seconds = self._family.Metric(labels={"model": self._card.name, "version": version})

    def execute(self, requests: list[Any]) -> None:
        """Answer every request of a dynamic batch, each as soon as it can be; one that does not fit fails alone.

        Early answers matter: who gets one makes the next request ready while the network works on the others.
        """
        waiting: list[tuple[Any, Request]] = []
        for request in requests:
            sender = request.get_response_sender()
            try:
                if pb.get_input_tensor_by_name(request, "about") is not None:
                    _send(sender, _card_answer(self._card.to_json()))
                else:
                    waiting.append((sender, self._read(request)))
            except Exception as error:  # noqa: BLE001  # raised here it would end the server: others are answered
                _send(sender, _failure(error))
        if waiting:
            self._predict(waiting)

    def finalize(self) -> None:
        self._predictor.close()

    def _predict(self, waiting: list[tuple[Any, Request]]) -> None:
        left = {place: sender for place, (sender, _) in enumerate(waiting)}

        def done(place: int, maps: NDArray[np.uint8], seconds: float) -> None:
            part = np.array([[seconds]], np.float32)
            tensors = [pb.Tensor("maps", maps[np.newaxis]), pb.Tensor("seconds", part)]
            _send(left.pop(place), pb.InferenceResponse(tensors))

        try:
            self._predictor([block for _, block in waiting], done)
        except Exception as error:  # noqa: BLE001  # whatever the network raises is told to those who wait for it
            for sender in left.values():
                _send(sender, _failure(error))

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        began = time.monotonic()
        try:
            return self._net(batch)
        finally:
            # At once and not with the whole batch: the watcher sees by it that a model works on.
            self._seconds.increment(time.monotonic() - began)

    def _read(self, request: Any) -> Request:
        tensors = {name: pb.get_input_tensor_by_name(request, name) for name in (*BLOCKS, "window", "zoom")}
        given = [name for name in BLOCKS if tensors[name] is not None]
        if len(given) != 1 or tensors["window"] is None or tensors["zoom"] is None:
            raise InvalidInput(f"A request needs window, zoom and one of {', '.join(BLOCKS)}.")
        block, window, zoom = (tensors[name].as_numpy() for name in (given[0], "window", "zoom"))
        if block.shape[0] != 1:
            raise InvalidInput("A request holds one block.")
        result = Request(block[0], window[0], float(zoom.flat[0]))
        check(result, self._card)
        return result


def _send(sender: Any, response: Any) -> None:
    """Answer a request; there is one answer to each."""
    sender.send(response, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _card_answer(text: str) -> Any:
    return pb.InferenceResponse([pb.Tensor("card", np.array([[text.encode()]], dtype=object))])


def _failure(error: Exception) -> Any:
    if isinstance(error, InvalidInput):
        return pb.InferenceResponse(error=pb.TritonError(str(error), pb.TritonError.INVALID_ARG))
    return pb.InferenceResponse(error=pb.TritonError(f"{type(error).__name__}: {error}"))
