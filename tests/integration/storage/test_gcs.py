"""A bucket in trouble: a relay between the storage and the emulator fails as the real service does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from gcloud.aio.auth.token import BaseToken

from shared.errors import Misconfigured, NotFound, Retry
from shared.storage import open_storage, read_all
from shared.storage.connection import Connection
from shared.storage.gcs import GcsStorage
from shared.storage.gcs_upload import PIECE
from shared.storage.retrying import Patience
from shared.storage.signing import signed
from tests.fixtures.gcs import GcsServer
from tests.fixtures.gcs_relay import Fault, Relay, serving


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
async def storage(relay: Relay, gcs_bucket: str, pauses: list[float]) -> AsyncIterator[GcsStorage]:
    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    opened = GcsStorage(Connection(gcs_bucket, relay.url, Patience(tries=4, pause=pause)), "p/", "mine")
    yield opened
    await opened.aclose()


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


@pytest.fixture(scope="module")
def large() -> bytes:
    return random.Random(3).randbytes(2 * PIECE + 900_000)


@pytest.mark.parametrize("how", ["503", "429", "500", "408", "cut", "lose"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_passing_failure_is_borne(
    storage: GcsStorage, relay: Relay, pauses: list[float], how: str, method: str
) -> None:
    relay.fail(method, how, times=2)
    await storage.put("k", b"small")
    assert await read_all(storage.get("k")) == b"small"
    assert (await storage.stat("k")).deployment == "mine"
    assert 1 <= len(pauses) <= 2, "aiohttp itself repeats a GET whose connection was cut"
    assert relay.plan == []


async def test_the_server_is_given_the_time_it_asks_for(storage: GcsStorage, relay: Relay, pauses: list[float]) -> None:
    relay.fail("POST", "429")
    await storage.put("k", b"small")
    assert pauses == [7.0]


@pytest.mark.parametrize("how", ["503", "cut", "half", "lose"])
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_resumable_upload_goes_on_where_it_broke(
    storage: GcsStorage, relay: Relay, large: bytes, how: str, which: int
) -> None:
    relay.plan += [(_nth_put(which), how)]
    stored = await storage.put("k", stream(large))
    assert relay.plan == []
    assert stored.size == len(large)
    assert await read_all(storage.get("k")) == large
    assert (await storage.stat("k")).sha256 == stored.sha256


def _nth_put(which: int) -> Fault:
    seen = Counter[str]()

    def fault(request: web.Request) -> bool:
        if request.method != "PUT" or request.headers["Content-Range"].startswith("bytes *"):
            return False
        seen[request.headers["Content-Range"]] += 1
        return len(seen) == which + 1

    return fault


async def test_an_upload_that_the_bucket_forgot_is_to_be_sent_again(
    storage: GcsStorage, relay: Relay, large: bytes
) -> None:
    relay.fail("PUT", "410")
    with pytest.raises(Retry, match="has forgotten an upload: send it again"):
        await storage.put("k", stream(large))
    with pytest.raises(NotFound):
        await storage.stat("k")


async def test_a_bucket_that_stays_away_is_said_in_a_sentence(
    storage: GcsStorage, relay: Relay, pauses: list[float], large: bytes
) -> None:
    relay.fail("POST", "503", times=99)
    relay.fail("GET", "cut", times=99)
    with pytest.raises(Retry, match="answers HTTP 503: try again later"):
        await storage.put("k", b"small")
    assert len(pauses) == 3, "four tries"
    with pytest.raises(Retry, match="does not answer"):
        await storage.stat("k")
    with pytest.raises(Retry, match="does not answer"):
        await read_all(storage.get("k"))
    with pytest.raises(Retry):
        await storage.put("k", stream(large))


async def test_refused_credentials_are_a_matter_of_setup(
    storage: GcsStorage, relay: Relay, pauses: list[float]
) -> None:
    relay.fail("POST", "403")
    with pytest.raises(Misconfigured, match="refuses this service's credentials"):
        await storage.put("k", b"small")
    assert pauses == []


async def test_a_download_that_breaks_goes_on_where_it_broke(
    storage: GcsStorage, relay: Relay, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put("k", large)
    lengths: list[str] = []

    async def short(request: web.Request, answer: aiohttp.ClientResponse) -> bytes:
        lengths.append(request.headers.get("Range", ""))
        return await answer.read()

    relay._body = short  # type: ignore[method-assign]
    broken = relay.handle

    async def handle(request: web.Request) -> web.StreamResponse:
        """Send the first megabyte only, then cut, twice."""
        answer = await broken(request)
        if request.method == "GET" and len(lengths) <= 2 and isinstance(answer, web.Response):
            whole = answer.body
            assert isinstance(whole, bytes)
            cut = web.StreamResponse(
                status=answer.status, headers={**answer.headers, "Content-Length": str(len(whole))}
            )
            await cut.prepare(request)
            await cut.write(whole[: 1 << 20])
            assert request.transport is not None
            request.transport.close()
            return cut
        return answer

    async with serving(handle) as url:
        other = GcsStorage(Connection(storage.to.bucket, url, storage.to.patience), "p/", "mine")
        assert await read_all(other.get("k")) == large
        assert lengths == ["", f"bytes={1 << 20}-", f"bytes={2 << 20}-"]
        await other.aclose()


async def test_bytes_that_changed_on_the_way_up_are_not_kept(storage: GcsStorage, relay: Relay) -> None:
    passed_on = relay._pass_on

    async def flipped(request: web.Request, body: bytes, upload: str) -> web.StreamResponse:
        return await passed_on(request, body.replace(b"small", b"smalL"), upload)

    relay._pass_on = flipped  # type: ignore[method-assign]
    with pytest.raises(Retry, match="arrived changed in the bucket"):
        await storage.put("k", b"small")
    with pytest.raises(NotFound):
        await storage.stat("k")


async def test_bytes_that_changed_on_the_way_down_are_noticed(
    storage: GcsStorage, relay: Relay, tmp_path: Path
) -> None:
    await storage.put("k", b"small")

    async def flipped(request: web.Request, answer: aiohttp.ClientResponse) -> bytes:
        return (await answer.read()).replace(b"small", b"smalL")

    relay._body = flipped  # type: ignore[method-assign]
    with pytest.raises(Retry, match="arrived changed from the bucket"):
        await storage.download("k", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


async def test_a_broken_stream_abandons_the_upload(storage: GcsStorage, relay: Relay, large: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield large
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await storage.put("k", broken())
    assert relay.seen["DELETE"] == 1
    assert [one async for one in storage.list()] == []


async def test_a_long_listing_comes_page_by_page(storage: GcsStorage) -> None:
    await asyncio.gather(*(storage.put(f"many/{n:04}", b"") for n in range(12)))
    listed = storage.to.client.list_objects
    storage.to.client.list_objects = lambda bucket, params, timeout: listed(
        bucket, params={**params, "maxResults": "5"}, timeout=timeout
    )
    assert [one.key async for one in storage.list("many/")] == [f"many/{n:04}" for n in range(12)]


async def test_a_bucket_that_is_not_there(gcs_server: GcsServer) -> None:
    opened = open_storage("gs://no-such-bucket", "mine", gcs_api_root=gcs_server.url)
    with pytest.raises(Misconfigured, match="There is no bucket 'no-such-bucket'"):
        await opened.check()
    await opened.aclose()


async def test_compose_joins_in_order_and_carries_the_mark(storage: GcsStorage) -> None:
    for name in "abc":
        await storage.put(f"part/{name}", name.encode() * 3)
    made = await storage.compose([f"p/part/{name}" for name in "bac"], "whole", "image/tiff", {"x": "y"})
    assert await read_all(storage.get("whole")) == b"bbbaaaccc"
    assert (made.content_type, made.deployment, made.metadata) == ("image/tiff", "mine", {"x": "y"})


async def test_a_refused_token_is_renewed_once(
    relay: Relay, gcs_bucket: str, credentials: Callable[[str], None], large: bytes
) -> None:
    given: list[str] = []

    async def tokens(request: web.Request) -> web.Response:
        given.append(f"token-{len(given)}")
        return web.json_response({"access_token": given[-1], "expires_in": 3600})

    async with serving(tokens) as url:
        credentials(f"{url}/token")
        opened = GcsStorage(Connection(gcs_bucket, relay.url, Patience(tries=2), anonymous=False), "", "mine")
        relay.fail("POST", "401")
        await opened.put("k", b"small")
        assert relay.authorizations == ["Bearer token-0", "Bearer token-1"]
        relay.fail("GET", "401")
        assert await read_all(opened.get("k")) == b"small"
        relay.fail("PUT", "401")
        await opened.put("large", large)
        assert given == ["token-0", "token-1", "token-2", "token-3"]
        relay.fail("GET", "401", times=9)
        with pytest.raises(Misconfigured):
            await opened.stat("k")
        await opened.aclose()


@pytest.mark.parametrize(("status", "expected"), [(503, Retry), (403, Misconfigured)])
async def test_a_token_that_cannot_be_had_is_told_in_a_sentence(
    relay: Relay,
    gcs_bucket: str,
    credentials: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    expected: type[Exception],
) -> None:
    answers = [status] * 1000

    async def tokens(request: web.Request) -> web.Response:
        if answers:
            return web.json_response({"error": "not now"}, status=answers.pop())
        return web.json_response({"access_token": "token", "expires_in": 3600})

    async def at_once(_seconds: float) -> None:
        pass

    monkeypatch.setattr(BaseToken.acquire_access_token.retry, "sleep", at_once)  # the library's own pauses
    async with serving(tokens) as url:
        credentials(f"{url}/token")
        patience = Patience(tries=3, pause=at_once)
        opened = GcsStorage(Connection(gcs_bucket, relay.url, patience, anonymous=False), "", "mine")
        with pytest.raises(expected):
            await opened.put("k", b"small")
        answers.clear()
        await opened.put("k", b"small")
        assert await read_all(opened.get("k")) == b"small"
        await opened.aclose()


async def test_signed_addresses_are_signed_by_the_account_and_name_the_file(
    gcs_server: GcsServer,
    gcs_bucket: str,
    account: tuple[rsa.RSAPrivateKey, dict[str, str]],
    credentials: Callable[[str], None],
) -> None:
    credentials("http://127.0.0.1:1/")
    opened = open_storage(f"gs://{gcs_bucket}/p", "mine", gcs_api_root=gcs_server.url)
    await opened.put("a b.tif", b"bytes")
    address = await opened.signed_url("a b.tif", timedelta(days=30), "ä.tif")
    assert address is not None
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    assert query["X-Goog-Expires"] == ["604800"]
    assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A4.tif"]
    unsigned, _, signature = parts.query.rpartition("&X-Goog-Signature=")
    canonical = f"GET\n{parts.path}\n{unsigned}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashes.Hash(hashes.SHA256())
    digest.update(canonical.encode())
    scope = query["X-Goog-Credential"][0].partition("/")[2]
    text = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date'][0]}\n{scope}\n{digest.finalize().hex()}"
    account[0].public_key().verify(bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert isinstance(opened, GcsStorage)
    upload = await signed(opened.to, "b.tif", timedelta(hours=1), put={"Content-Type": "image/tiff"})
    assert upload is not None
    assert parse_qs(urlsplit(upload).query)["X-Goog-SignedHeaders"] == ["content-type;host"]
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert await answer.read() == b"bytes", "the emulator serves it where it is"
    await opened.aclose()


async def test_nobody_can_sign_for_an_emulator(storage: GcsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert await storage.signed_url("k", timedelta(hours=1)) is None
