"""The watch of the pods against a server that misbehaves as real ones do: cuts, compaction, bookmarks, throttling."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.errors import NotFound, Retry
from shared.kubernetes import Cluster, Pods, Refused, connect, selects

Stream = Callable[[web.StreamResponse], Awaitable[None]]


def pod(name: str, version: int, **meta: Any) -> dict[str, Any]:
    stamp = "2026-01-01T00:00:00Z"
    about = {"name": name, "uid": name, "creationTimestamp": stamp, "resourceVersion": str(version), **meta}
    return {"metadata": about, "status": {"phase": "Running"}}


class Server:
    """Answers lists and watches by script."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.version = 10
        self.streams: list[Stream] = []
        self.asked: list[str] = []
        self.answer: tuple[int, dict[str, Any], dict[str, str]] | None = None
        self.tokens: list[str] = []
        self.waits = 0
        self.last = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.answer:
            status, body, headers = self.answer
            return web.json_response(body, status=status, headers=headers)
        if "watch" not in request.query:
            self.asked.append("list")
            begin = int(request.query.get("continue", "0"))
            limit = 2  # smaller than asked for, as servers may
            more = begin + limit < len(self.items)
            meta = {"resourceVersion": str(self.version), "continue": str(begin + limit) if more else ""}
            return web.json_response({"metadata": meta, "items": self.items[begin : begin + limit]})
        self.asked.append(f"watch {request.query['resourceVersion']}")
        if self.waits:
            self.waits -= 1
            await asyncio.Event().wait()
        response = web.StreamResponse()
        await response.prepare(request)
        if self.streams:
            await self.streams.pop(0)(response)
        else:
            self.last.set()
            await asyncio.Event().wait()
        return response


def events(*sent: tuple[str, dict[str, Any]]) -> Stream:
    async def send(response: web.StreamResponse) -> None:
        for kind, thing in sent:
            await response.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")

    return send


async def cut(response: web.StreamResponse) -> None:
    """End in the middle of a line, as a broken connection does."""
    await response.write(b'{"type": "ADDED", "obj')
    assert response._req is not None
    assert response._req.transport is not None
    response._req.transport.abort()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def cluster(server: Server, tmp_path: Path) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    running = TestServer(app)
    await running.start_server()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": str(running.make_url("")).rstrip("/")}}],
        "users": [{"name": "test", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "here"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    made = await connect(str(path), rate=1000)
    yield made
    await made.aclose()
    await running.close()


async def watched(server: Server, pods: Pods) -> None:
    """Run the watch until the script has come to its end."""
    task = asyncio.create_task(pods.run())
    async with asyncio.timeout(20):
        await server.last.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_namespace_and_token_are_the_configurations(server: Server, cluster: Cluster) -> None:
    assert cluster.namespace == "here"
    await cluster.get(cluster.pods())
    assert server.tokens == ["Bearer secret"]


async def test_a_list_comes_in_pages_and_changes_follow(server: Server, cluster: Cluster) -> None:
    server.items = [pod(f"p{i}", i) for i in range(5)]
    server.streams = [
        events(
            ("ADDED", pod("new", 11)),
            ("DELETED", pod("p0", 12)),
            ("MODIFIED", pod("p1", 13, deletionTimestamp="2026-01-01T00:00:00Z")),
        )
    ]
    pods = Pods(cluster, lambda: None)
    with pytest.raises(Retry, match="not been listed"):
        pods.all()
    await watched(server, pods)
    assert sorted(pods.all()) == ["new", "p1", "p2", "p3", "p4"]
    assert pods.all()["p1"].stopping
    assert server.asked == ["list", "list", "list", "watch 10", "watch 13"], "it goes on where the watch ended"


async def test_a_bookmark_moves_the_place_to_go_on_from(server: Server, cluster: Cluster) -> None:
    server.streams = [events(("BOOKMARK", {"metadata": {"resourceVersion": "99"}}))]
    pods = Pods(cluster, lambda: None)
    await watched(server, pods)
    assert server.asked == ["list", "watch 10", "watch 99"]
    assert pods.all() == {}


async def test_a_compacted_version_means_a_new_list(server: Server, cluster: Cluster) -> None:
    gone = {"kind": "Status", "code": 410, "message": "too old resource version: 10 (50)"}

    async def compacted(response: web.StreamResponse) -> None:
        server.items, server.version = [pod("later", 50)], 50
        await events(("ERROR", gone))(response)

    server.items = [pod("early", 1)]
    server.streams = [compacted]
    pods = Pods(cluster, lambda: None)
    await watched(server, pods)
    assert list(pods.all()) == ["later"], "what was deleted meanwhile is gone"
    assert server.asked == ["list", "watch 10", "list", "watch 50"]


async def test_a_cut_connection_means_a_new_list(server: Server, cluster: Cluster) -> None:
    changes: list[int] = []
    server.items = [pod("p0", 1)]
    server.streams = [cut]
    pods = Pods(cluster, lambda: changes.append(1))
    await watched(server, pods)
    assert server.asked == ["list", "watch 10", "list", "watch 10"]
    assert len(changes) >= 3, "the trouble itself is told of too"


async def test_a_watch_that_is_never_accepted_is_trouble_and_not_waited_for(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.kubernetes._CALL_TIMEOUT", 1.0)
    server.items, server.waits = [pod("p", 1)], 1
    pods = Pods(cluster, lambda: None)
    await watched(server, pods)
    assert server.asked == ["list", "watch 10", "list", "watch 10"]
    assert pods.all()


async def test_an_error_is_not_an_empty_list(server: Server, cluster: Cluster) -> None:
    server.items = [pod("p0", 1)]
    told = asyncio.Event()
    pods = Pods(cluster, told.set)
    task = asyncio.create_task(pods.run())
    async with asyncio.timeout(20):
        await server.last.wait()
        assert list(pods.all()) == ["p0"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.answer = (500, {"message": "etcd is away"}, {})
        told.clear()
        task = asyncio.create_task(pods.run())
        await told.wait()
    with pytest.raises(Retry, match="etcd is away"):
        pods.all()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_silence_for_too_long_is_not_acted_upon(server: Server, cluster: Cluster) -> None:
    pods = Pods(cluster, lambda: None, stale_after=1e-9)
    await watched(server, pods)
    with pytest.raises(Retry, match="Nothing was heard"):
        pods.all()


async def test_throttling_is_respected(server: Server, cluster: Cluster) -> None:
    server.answer = (429, {"message": "slow down"}, {"Retry-After": "7"})
    with pytest.raises(Retry, match="fewer calls"):
        await cluster.get("/api")
    server.answer = None
    calls = cluster.calls
    with pytest.raises(Retry, match="fewer calls") as refused:
        await cluster.get("/api")
    assert cluster.calls == calls, "nothing is sent while the server asked for quiet"
    assert refused.value.after is not None
    assert 6 < refused.value.after <= 7


async def test_the_rate_of_calls_is_bounded(server: Server, cluster: Cluster) -> None:
    config = cluster._client
    slow = Cluster(config, "here", rate=20.0)
    began = time.monotonic()
    for _ in range(105):  # 100 at once, the rest at 20 a second
        await slow.get("/api")
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Refused), (503, Retry)])
async def test_errors_have_their_meaning(server: Server, cluster: Cluster, status: int, kind: type[Exception]) -> None:
    server.answer = (status, {"message": "because"}, {})
    with pytest.raises(kind):
        await cluster.get("/api/v1/x")


@pytest.mark.parametrize(
    ("selector", "labels", "met"),
    [
        ("app=a", {"app": "a"}, True),
        ("app=a", {"app": "b"}, False),
        ("app=a,tier in (x,y)", {"app": "a", "tier": "y"}, True),
        ("app=a,tier in (x,y)", {"app": "a", "tier": "z"}, False),
        ("tier notin (x,y)", {"app": "a"}, True),
        ("app!=a", {"app": "a"}, False),
        ("app", {"app": ""}, True),
        ("!app", {"app": ""}, False),
        ("app==a,!gone", {"app": "a"}, True),
    ],
)
def test_selectors(selector: str, labels: dict[str, str], met: bool) -> None:
    assert selects(selector, labels) is met
