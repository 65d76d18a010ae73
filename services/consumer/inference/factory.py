"""From a URL to a model server."""

from __future__ import annotations

from pathlib import Path

from services.consumer.inference.protocol import ModelServer
from shared.errors import Misconfigured


def open_model_server(url: str, *, threads: int = 0) -> ModelServer:
    """The model server at ``url``; must be called on the event loop that will use it.

    ``grpc://host:port[,host:port…]`` is Triton, each name standing for all its addresses; ``onnx://folder`` runs the
    models of that repository in this process with ``threads`` threads each (0: as many as there are cores).
    Raises Misconfigured for any other URL.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "grpc" and separator:
        from services.consumer.inference.triton import TritonServer

        return TritonServer(_endpoints(rest, url))
    if scheme == "onnx" and separator and rest:
        from services.consumer.inference.onnx import OnnxServer

        return OnnxServer(Path(rest), threads=threads)
    raise Misconfigured(
        f"The model server's URL is {url!r}; it must be grpc://host:port (Triton) or onnx://folder (in process)."
    )


def _endpoints(text: str, url: str) -> list[tuple[str, int]]:
    endpoints = []
    for part in text.rstrip("/").split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Misconfigured(f"The model server's URL {url!r} must name host:port, and {part!r} does not.")
        endpoints.append((host.strip("[]"), int(port)))
    return endpoints
