"""Whether a Triton server can really infer: ``python -m services.triton.health --server http://127.0.0.1:8000``.

Triton calls a model ready whose process has died, so that its own health page says nothing. Here every loaded model
predicts a small empty image. Exit code 0: all did; 1, with a sentence: the server is away, or a model does not.
Needs nothing but Python's own library, so that it runs in any container.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SIDE = 32  # pixels, of the image that is predicted
TIMEOUT = 10.0  # seconds for one model


class Unhealthy(Exception):
    """The server or a model does not work.

    Attributes:
        broken: the model's process is dead, and must be loaded again.
        silent: the model gave no answer in time; it may be busy, or it hangs.
    """

    def __init__(self, sentence: str, *, broken: bool = False, silent: bool = False) -> None:
        super().__init__(sentence)
        self.broken, self.silent = broken, silent


def check_server(server: str, timeout: float = TIMEOUT) -> list[str]:
    """Let every loaded model of ``server`` infer, all at once; returns their names. Raises Unhealthy if one does not.

    ``timeout`` (s) holds for the list of models and then for all of them together.
    """
    names = loaded(server, timeout)
    if not names:
        raise Unhealthy(f"The Triton server {server} has no model loaded.")
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: check_model(server, name, timeout), names))
    return names


def loaded(server: str, timeout: float = TIMEOUT) -> list[str]:
    """The names of the models that Triton calls ready. Raises Unhealthy if the server does not answer."""
    try:
        index = call(server, "repository/index", {}, timeout)
    except (OSError, ValueError) as error:
        raise Unhealthy(f"The Triton server {server} does not answer: {error}") from error
    return sorted({entry["name"] for entry in index if entry.get("state") == "READY"})


def missing(server: str, timeout: float = TIMEOUT) -> dict[str, str]:
    """The models of the repository of which no version is ready, each with why in a line; "" while it is loaded."""
    index = call(server, "repository/index", {}, timeout)
    ready = {entry["name"] for entry in index if entry.get("state") == "READY"}
    reasons = {entry["name"]: str(entry.get("reason", "")) for entry in index if entry["name"] not in ready}
    return {name: text.partition("\n")[0].removeprefix("Internal: ") for name, text in reasons.items()}


def check_model(server: str, name: str, timeout: float = TIMEOUT) -> None:
    """One small inference; raises Unhealthy if it fails.

    A server under load may have no time for this one: it is healthy all the same if it answered others meanwhile.
    """
    before, until = None, time.monotonic() + timeout
    try:
        before = answered(server, name, timeout)
        request = _small_request(_channels(server, name, timeout))
        call(server, f"models/{name}/infer", request, max(0.1, until - time.monotonic()))
    except urllib.error.HTTPError as error:
        reason = _reason(error)
        if "unexpected inference input" in reason:
            return  # a model of another backend: it answers, and what it would predict is not known here
        raise Unhealthy(f"The model {name} fails: {reason}", broken="tub process" in reason) from error
    except OSError as error:
        if before is None or not _moves(server, name, timeout, before):
            raise Unhealthy(f"The model {name} gave no answer within {timeout:g} s: {error}", silent=True) from error


def call(server: str, path: str, body: Any = None, timeout: float = TIMEOUT) -> Any:
    """Call Triton's HTTP API: POST of ``body`` as JSON, GET where there is none. Raises OSError or ValueError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server}/v2/{path}", data=data)  # noqa: S310 the operator's own address
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def _channels(server: str, name: str, timeout: float) -> int:
    about = {"name": "about", "shape": [1, 1], "datatype": "UINT8", "data": [1]}
    answer = call(server, f"models/{name}/infer", {"inputs": [about], "outputs": [{"name": "card"}]}, timeout)
    return len(json.loads(answer["outputs"][0]["data"][0])["channels"])


def _small_request(channels: int) -> dict[str, Any]:
    shape = [1, SIDE, SIDE, channels]
    inputs = [
        {"name": "uint8", "shape": shape, "datatype": "UINT8", "data": [0] * (SIDE * SIDE * channels)},
        {"name": "window", "shape": [1, channels, 2], "datatype": "FP32", "data": [0.0, 1.0] * channels},
        {"name": "zoom", "shape": [1, 1], "datatype": "FP32", "data": [1.0]},
    ]
    return {"inputs": inputs, "outputs": [{"name": "maps"}]}


def answered(server: str, name: str, timeout: float = TIMEOUT) -> int:
    """How many requests a model has answered; those of a batch are counted when all of it is done."""
    stats = call(server, f"models/{name}/stats", None, timeout)["model_stats"]
    return sum(int(each["inference_stats"]["success"]["count"]) for each in stats)


def _moves(server: str, name: str, timeout: float, before: int) -> bool:
    try:
        return answered(server, name, timeout) > before + 1  # one may be our own question for the channels
    except OSError:
        return False


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text or str(error)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.triton.health", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--server", default="http://127.0.0.1:8000", help="Triton's HTTP address")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each model")
    options = parser.parse_args()
    try:
        names = check_server(options.server.rstrip("/"), options.timeout)
    except Unhealthy as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ready: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
