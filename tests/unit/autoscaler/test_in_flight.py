"""Which model servers are at work, by metrics pages such as Triton's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.autoscaler.scalers.in_flight import InFlight

PAGE = """# HELP nv_inference_request_success Number of successful inference requests
nv_inference_request_success{{model="a",version="1"}} {done}
nv_inference_request_success{{model="b",version="1"}} 7
nv_inference_request_failure{{model="a",reason="OTHER",version="1"}} 1
nv_inference_pending_request_count{{model="a",version="1"}} {pending}
"""


class Triton:
    def __init__(self) -> None:
        self.done, self.pending, self.status = 5, 0, 200

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=PAGE.format(done=self.done, pending=self.pending), status=self.status)


@pytest.fixture
async def triton() -> Triton:
    return Triton()


@pytest.fixture
async def port(triton: Triton) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/metrics", triton.metrics)
    server = TestServer(app)
    await server.start_server()
    assert server.port is not None
    yield server.port
    await server.close()


@pytest.fixture
async def in_flight() -> AsyncIterator[InFlight]:
    made = InFlight()
    yield made
    await made.aclose()


async def test_idle_is_what_did_nothing_between_two_looks(in_flight: InFlight, triton: Triton, port: int) -> None:
    here = {"t-0": "127.0.0.1"}
    assert await in_flight.busy(port, here) == {"t-0"}, "one look alone proves nothing"
    assert await in_flight.busy(port, here) == set()
    triton.done += 1
    assert await in_flight.busy(port, here) == {"t-0"}
    triton.pending = 2
    assert await in_flight.busy(port, here) == {"t-0"}
    triton.pending = 0
    assert await in_flight.busy(port, here) == set()


async def test_what_does_not_answer_counts_as_busy(in_flight: InFlight, triton: Triton, port: int) -> None:
    here = {"t-0": "127.0.0.1", "starting": ""}
    triton.status = 500
    assert await in_flight.busy(port, here) == {"t-0"}
    triton.status = 200
    assert await in_flight.busy(port, here) == {"t-0"}, "what was known before the trouble does not count"
    assert await in_flight.busy(port, here) == set()
