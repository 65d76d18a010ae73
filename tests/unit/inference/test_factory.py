"""From a URL to a model server."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.consumer.inference import open_model_server
from services.consumer.inference.onnx import OnnxServer
from services.consumer.inference.triton import TritonServer
from shared.errors import Misconfigured


@pytest.mark.parametrize("url", ["grpc://localhost:8001", "grpc://a:1,b:2/", "grpc://[::1]:8001"])
async def test_grpc_is_triton(url: str) -> None:
    server = open_model_server(url)
    assert isinstance(server, TritonServer)
    await server.aclose()


async def test_onnx_is_in_process(tmp_path: Path) -> None:
    server = open_model_server(f"onnx://{tmp_path}")
    assert isinstance(server, OnnxServer)
    assert await server.models() == {}
    await server.aclose()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://localhost:8000", r"must be grpc://host:port \(Triton\) or onnx://folder"),
        ("localhost:8001", "must be grpc"),
        ("", "must be grpc"),
        ("onnx://", "must be grpc"),
        ("onnx:///not/there", "repository /not/there is not a folder"),
        ("grpc://localhost", "must name host:port, and 'localhost' does not"),
        ("grpc://localhost:99999", "must name host:port"),
        ("grpc://a:1,b", "'b' does not"),
    ],
)
async def test_another_url_is_refused_with_the_reason(url: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        open_model_server(url)
