"""When a service says that it is ready."""

from __future__ import annotations

import asyncio

import aiohttp

from shared.lifecycle import Process, health_server
from shared.settings import HealthSettings, ServiceSettings


async def asked(port: int) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
        return answer.status


async def passes() -> None:
    return None


async def test_a_service_that_has_not_said_what_it_needs_is_not_ready() -> None:
    process = Process("some", ServiceSettings(health=HealthSettings(host="127.0.0.1", port=0)))
    async with health_server(process) as port:
        assert await asked(port) == 503
        process.check("one", passes)
        assert await asked(port) == 200


async def test_a_check_may_be_added_while_others_are_under_way() -> None:
    process = Process("some", ServiceSettings())
    asked_for, told = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        asked_for.set()
        await told.wait()

    process.check("slow", slow)
    readiness = asyncio.create_task(process.readiness())
    await asked_for.wait()
    process.check("later", passes)
    told.set()
    assert await readiness == {"slow": "ok"}
