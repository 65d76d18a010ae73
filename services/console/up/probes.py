"""How one sees from outside that a part works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

Problem = Callable[[], Awaitable[str]]

#: Seconds for one look; a part that hangs is one that does not work.
LOOK = 3.0


def http(port: int, path: str = "/readyz", host: str = "127.0.0.1") -> Problem:
    """A probe that is content once ``GET path`` answers 200; a refused one tells which check failed."""

    async def problem() -> str:
        status, body = await get(host, port, path)
        return "" if status == 200 else _failed_check(status, body)

    return problem


def frontend(side: int, host: str, port: int) -> Problem:
    """A probe that is content once the frontend is ready and a consumer has told it what can be done."""
    ready = http(side)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound

    async def problem() -> str:
        if lack := await ready():
            return lack
        _status, body = await get(host, port, "/api/jobtypes")
        return "" if b'"jobTypes": ["' in body or b'"jobTypes":["' in body else "no consumer has told its job types"

    return problem


def redis(port: int, password: str) -> Problem:
    """A probe that is content once Redis has read its data and answers."""

    async def problem() -> str:
        answer = await _exchange("127.0.0.1", port, f"AUTH {password}\r\nPING\r\n".encode(), b"+PONG\r\n")
        return "" if answer.endswith(b"+PONG\r\n") else "Redis does not answer yet"

    return problem


def triton(port: int, models: Sequence[str]) -> Problem:
    """A probe that is content once the server is ready and has loaded each of the models."""

    async def problem() -> str:
        for path in ("/v2/health/ready", *(f"/v2/models/{model}/ready" for model in models)):
            status, _body = await get("127.0.0.1", port, path)
            if status != 200:
                return await _why_not(port) if status else "Triton does not answer yet"
        return ""

    return problem


async def _why_not(port: int) -> str:
    """Return why a model is not loaded, as the server's list of models says."""
    _status, body = await _request("127.0.0.1", port, "POST", "/v2/repository/index")
    try:
        models = json.loads(body)
    except ValueError:
        models = []
    wrong = [m for m in models if m.get("state") != "READY"]
    reasons = [f"the model {m['name']} is not loaded: {m.get('reason', '').partition(chr(10))[0]}" for m in wrong]
    return "; ".join(reasons) or "the models are not loaded yet"


async def get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a small HTTP answer; status 0 where there was none."""
    return await _request(host, port, "GET", path)


async def _request(host: str, port: int, method: str, path: str) -> tuple[int, bytes]:
    request = f"{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = await _exchange(host, port, request.encode(), None)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


async def _exchange(host: str, port: int, sent: bytes, until: bytes | None) -> bytes:
    """Send bytes and return what comes back until the other side closes, or until it has sent ``until``."""
    try:
        async with asyncio.timeout(LOOK):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(sent)
                return await (reader.read() if until is None else _read_until(reader, until))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def _read_until(reader: asyncio.StreamReader, until: bytes) -> bytes:
    got = b""
    while not got.endswith(until) and (more := await reader.read(4096)):
        got += more
        if b"-" in (got[:1], got[got.rfind(b"\n", 0, -1) + 1 :][:1]):  # an error: nothing more will come
            break
    return got


def _failed_check(status: int, body: bytes) -> str:
    if not status:
        return "does not answer yet"
    try:
        checks = json.loads(body).get("checks", {})
    except (ValueError, AttributeError):
        checks = {}
    wrong = [f"{name}: {result}" for name, result in checks.items() if result != "ok"]
    return "; ".join(wrong) or f"answers {status}"
