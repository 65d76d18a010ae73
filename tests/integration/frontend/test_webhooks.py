"""Calls to addresses that submitters name."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from redis.exceptions import ConnectionError as RedisConnectionError

from services.frontend import webhooks
from services.frontend.settings import WebhookSettings
from services.frontend.webhooks import Webhooks, signature
from tests.fixtures.frontend import Serve, Served

ON = {"webhooks": {"secret": "quiet", "private": True}}


class Receiver:
    def __init__(self, *statuses: int) -> None:
        self.calls: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.statuses = list(statuses)

    async def take(self, request: web.Request) -> web.Response:
        await self.calls.put((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


async def _receiver(aiohttp_server: Any, *statuses: int) -> tuple[Receiver, str]:
    receiver = Receiver(*statuses)
    app = web.Application()
    app.router.add_post("/call", receiver.take)
    return receiver, str((await aiohttp_server(app)).make_url("/call"))


async def _ordered(served: Served, url: str) -> tuple[int, Any]:
    _, stored = await served.upload()
    return await served.post("/api/v1/jobs", {"type": "segmentation", "file": stored["uploadedName"], "webhook": url})


async def test_a_job_calls_at_start_progress_and_end(serve: Serve, aiohttp_server: Any) -> None:
    receiver, url = await _receiver(aiohttp_server)
    served = await serve(**ON)
    status, job = await _ordered(served, url)
    assert status == 201
    (claimed,) = await served.worker.claim()
    headers, body = await receiver.calls.get()
    assert json.loads(body)["event"] == "started"
    stamp, _, proof = headers["Kiosk-Signature"].removeprefix("t=").partition(",v1=")
    assert proof == signature("quiet", stamp, body)
    assert headers["Kiosk-Call"] == f"{job['id']}/started"
    await served.store.advance("stand-in", (claimed.held, "predicting", 42))
    assert json.loads((await receiver.calls.get())[1])["job"]["progress"] == 42
    await served.worker.complete(claimed)
    while json.loads((await receiver.calls.get())[1])["event"] != "done":
        pass
    await asyncio.gather(*served.front.webhooks._following.values())
    assert await served.store.redis.zcard(served.store.prefix + "webhooks") == 0


async def test_a_job_that_is_submitted_again_calls_too(serve: Serve, aiohttp_server: Any) -> None:
    receiver, url = await _receiver(aiohttp_server)
    served = await serve(**ON)
    _, job = await _ordered(served, url)
    (claimed,) = await served.worker.claim()
    await served.store.fail("stand-in", claimed.held, "The file is no image.")
    while json.loads((await receiver.calls.get())[1])["event"] != "failed":
        pass
    status, again = await served.post(f"/api/v1/jobs/{job['id']}/retry", {})
    assert status == 201
    await served.worker.claim()
    assert (await receiver.calls.get())[0]["Kiosk-Call"] == f"{again['id']}/started"


async def test_a_call_that_fails_is_made_again(
    serve: Serve, aiohttp_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_PAUSE", 0.0)
    receiver, url = await _receiver(aiohttp_server, 500, 302)
    served = await serve(**ON)
    await _ordered(served, url)
    await served.worker.claim()
    calls = [await receiver.calls.get() for _ in range(3)]
    assert len({headers["Kiosk-Call"] for headers, _ in calls}) == 1


async def test_another_frontend_takes_over(serve: Serve, aiohttp_server: Any) -> None:
    receiver, url = await _receiver(aiohttp_server)
    served = await serve(**ON)
    await _ordered(served, url)
    for task in list(served.front.webhooks._following.values()):
        task.cancel()
    (claimed,) = await served.worker.claim()
    await served.worker.complete(claimed)
    later = Webhooks(served.front.settings.webhooks, served.store, served.front.hub, now=lambda: 4e9)
    task = asyncio.create_task(later.run())
    assert json.loads((await receiver.calls.get())[1])["event"] == "done"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_while_redis_is_away_a_job_stays_noted_for_whoever_looks_next(
    serve: Serve, aiohttp_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise RedisConnectionError

    receiver, url = await _receiver(aiohttp_server)
    served = await serve(**ON)
    await _ordered(served, url)
    monkeypatch.setattr(served.store.redis, "zrem", away)
    (claimed,) = await served.worker.claim()
    await served.worker.complete(claimed)
    while json.loads((await receiver.calls.get())[1])["event"] != "done":
        pass
    await asyncio.gather(*served.front.webhooks._following.values())
    assert await served.store.redis.zcard(served.store.prefix + "webhooks") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[64:ff9b::a9fe:a9fe]/latest/meta-data",
        "http://[2002:7f00:1::]/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3/x",
        "http://192.168.0.1/x",
        "http://0.0.0.0/x",
        "http://2130706433/x",
        "http://user@example.org/",
        "ftp://example.org/x",
        "http://:80/",
        "http://example.org:99999/",
        "javascript:alert(1)",
    ],
)
async def test_private_and_odd_addresses_are_refused(serve: Serve, url: str) -> None:
    served = await serve(webhooks={"secret": "quiet"})
    status, problem = await _ordered(served, url)
    assert (status, problem["code"]) == (400, "bad-webhook")
    # Also where a name comes to mean another address later, as at the call itself.
    if url.startswith("http://1") or "[" in url:
        assert "not a public address" in await served.front.webhooks._try(url, "id", b"{}")


class Names:
    """Answers each question for a name with the next of some addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(self, host: str, port: int, family: int) -> list[dict[str, Any]]:
        found = {"hostname": host, "host": self.addresses.pop(0), "port": port}
        return [{**found, "family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    async def close(self) -> None:
        pass


async def test_a_name_that_comes_to_mean_a_private_address_is_not_called(
    serve: Serve, aiohttp_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, url = await _receiver(aiohttp_server)
    names = Names("93.184.215.14", "127.0.0.1")
    monkeypatch.setattr(webhooks, "DefaultResolver", lambda: names)
    served = await serve(webhooks={"secret": "quiet"})
    rebound = f"http://harmless.example:{urlsplit(url).port}/call"
    await served.front.webhooks.check(rebound)
    assert "127.0.0.1 is not a public address" in await served.front.webhooks._try(rebound, "id", b"{}")
    assert receiver.calls.empty()
    assert names.addresses == []


async def test_webhooks_are_off_without_a_secret(served: Served) -> None:
    status, problem = await _ordered(served, "https://example.org/")
    assert (status, problem["code"]) == (400, "no-webhooks")


def test_the_secret_is_not_shown_with_the_settings() -> None:
    settings = WebhookSettings.model_validate({"secret": "hush"})
    assert "hush" not in f"{settings!r} {settings}"
    assert settings.secret.get_secret_value() == "hush"
