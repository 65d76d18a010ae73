"""Who may do what: keys, cookies, tokens, owners, quotas."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from services.frontend.app import make_app
from services.frontend.auth import is_open
from services.frontend.v1.routes import ROUTES
from services.frontend.v1.routing import Route
from shared.auth import KeyStore
from shared.errors import InvalidInput, NotFound
from shared.jobs import JobStore
from shared.jobs.model import new_id
from tests.fixtures.frontend import TIFF, Serve, Served, multipart

LOCKED = {"auth": {"anonymous": "off"}}


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


async def _key(served: Served, *scopes: str, owner: str = "") -> str:
    keys = KeyStore(served.store.redis, served.store.prefix)
    _, text = await keys.create("test", scopes or ("read", "write"), owner=owner)
    return text


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _submitted(served: Served, key: str) -> tuple[str, str]:
    """Upload and submit as the holder of a key; return the file and the job's id."""
    _, stored = await served.upload("cells.tif", TIFF, **_as(key))
    wish = {"type": "segmentation", "file": stored["uploadedName"]}
    status, job = await served.post("/api/v1/jobs", wish, **_as(key))
    assert status == 201, job
    return stored["uploadedName"], job["id"]


# -- keys --


async def test_a_key_is_verified_listed_and_revoked(store: JobStore) -> None:
    keys = KeyStore(store.redis, store.prefix)
    key, text = await keys.create("laptop", ["read"])
    assert await keys.verify(text) == key
    assert await keys.list() == [key]
    assert text.split("_", 2)[2] not in str(await store.redis.hgetall(store.prefix + "auth:keys"))
    assert await keys.revoke(key.id) == key
    assert await keys.verify(text) is None
    with pytest.raises(NotFound, match="There is no API key"):
        await keys.revoke(key.id)


async def test_a_key_expires(store: JobStore) -> None:
    clock = Clock()
    keys = KeyStore(store.redis, store.prefix, clock)
    _, text = await keys.create("visitor", life=60)
    clock.time += 59
    assert await keys.verify(text)
    clock.time += 2
    assert await keys.verify(text) is None


@pytest.mark.parametrize(
    "wrong", [{"scopes": ["fly"]}, {"scopes": []}, {"life": 0}, {"owner": "anonymous"}, {"owner": "a:b"}]
)
async def test_keys_that_cannot_be_made(store: JobStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await KeyStore(store.redis, store.prefix).create("x", **wrong)


async def test_a_mistyped_key_is_refused(serve: Serve) -> None:
    served = await serve()
    good = await _key(served)
    for bad in ("nonsense", good[:-1], good[:-1] + ("A" if good[-1] != "A" else "B"), good.replace("ck_", "ck_0")):
        status, problem = await served.get("/api/v1/jobs", **_as(bad))
        assert (status, problem["code"]) == (401, "unauthorized")


# -- the gate --


async def test_every_route_needs_a_key(serve: Serve) -> None:
    served = await serve(**LOCKED)
    asked = set()
    for route in make_app(served.front).router.routes():
        path = route.resource.canonical if route.resource else ""  # type: ignore[union-attr]
        path = path.replace("{id}", new_id("segmentation")).replace("{upload}", "0" * 32).replace("{any}", "any")
        method = "GET" if route.method == "*" else route.method
        if method == "OPTIONS" or is_open(path.rstrip("/") or "/"):
            continue
        async with served.http.request(method, served.url + path) as answer:
            assert answer.status == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        asked.add(path)
    assert len(asked) > 2 * len({route.path for route in ROUTES}) - 4


@pytest.mark.parametrize("path", ["/", "/docs", "/about", "/static/app.js", "/api/health-check", "/api/openapi.json"])
async def test_what_is_open_stays_open(serve: Serve, path: str) -> None:
    served = await serve(**LOCKED)
    async with served.http.get(served.url + path) as answer:
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_links_to_files_are_open_only_where_nobody_can_guess_them(serve: Serve) -> None:
    served = await serve(**LOCKED)
    key = await _key(served)
    file, _ = await _submitted(served, key)
    await served.front.storage.put("uploads/plate-1.tif", TIFF)
    for path, headers, status in (
        (f"/{file}", {}, 200),
        (f"/{file.replace(file[8:12], 'zzzz')}", {}, 401),
        ("/uploads/plate-1.tif", {}, 401),
        ("/uploads/plate-1.tif", _as(key), 200),
        ("/results/plate-1.tif", {}, 404),
    ):
        async with served.http.get(served.url + path, headers=headers) as answer:
            assert answer.status == status, path


async def test_compat_opens_the_old_routes_only(serve: Serve) -> None:
    served = await serve(auth={"anonymous": "compat"})
    job_id = await served.submit()
    assert (await served.post("/api/status", {"hash": job_id}))[1] == {"status": "new"}
    assert (await served.get("/api/v1/jobs"))[0] == 401


@pytest.mark.parametrize(
    ("host", "mode"), [("127.0.0.1", "on"), ("::1", "on"), ("0.0.0.0", "off"), ("10.0.0.5", "off")]
)
async def test_anonymous_use_is_for_loopback(serve: Serve, host: str, mode: str) -> None:
    assert (await serve(host=host)).front.gate.anonymous == mode


async def test_a_key_may_do_what_its_scopes_say(serve: Serve) -> None:
    served = await serve(**LOCKED)
    reader = await _key(served, "read")
    assert (await served.get("/api/v1/jobs", **_as(reader)))[0] == 200
    assert (await served.post("/api/status", {"hash": "x"}, **_as(reader)))[0] == 200
    status, problem = await served.post("/api/v1/jobs", {}, **_as(reader))
    assert (status, problem["code"]) == (403, "forbidden")


# -- owners --


async def _batch(served: Served, key: str, file: str) -> str:
    wish = {"type": "segmentation", "files": [{"file": file}]}
    status, batch = await served.post("/api/v1/batches", wish, **_as(key))
    assert status == 201, batch
    return str(batch["id"])


_OF_SOMEBODY = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", _OF_SOMEBODY, ids=lambda route: f"{route.method} {route.path}")
async def test_what_is_anothers_does_not_exist(serve: Serve, route: Route) -> None:
    """Whatever route names a job or a batch, also those that come to be."""
    served = await serve(**LOCKED)
    mine, theirs = await _key(served), await _key(served)
    file, job_id = await _submitted(served, mine)
    batch = await _batch(served, mine, file)
    path = route.path.replace("{id}", batch if "/batches/" in route.path else job_id)
    own, _ = await _submitted(served, theirs)
    body = {"seconds": 0} if path.endswith("/expiry") else {"type": "segmentation", "file": own}
    before = await served.store.get_many([job_id])
    async with served.http.request(
        route.method, served.url + path, json=body if route.body else None, headers=_as(theirs)
    ) as answer:
        submits = (route.method, route.path) == ("PUT", "/api/v1/jobs/{id}")
        assert answer.status == (409 if submits else 404), "an id that is taken is no secret, only what it is"
        told = await answer.text()
    assert not {"priority", "options", mine.split("_")[1], file} & set(told.replace('"', " ").split())
    assert await served.store.get_many([job_id]) == before


async def test_nobody_names_or_finds_what_is_anothers(serve: Serve) -> None:
    served = await serve(**LOCKED)
    mine, theirs = await _key(served), await _key(served)
    file, job_id = await _submitted(served, mine)
    me, other = _as(mine), _as(theirs)
    assert (await served.get("/api/v1/jobs", **other))[1]["jobs"] == []
    assert len((await served.get("/api/v1/jobs", **me))[1]["jobs"]) == 1
    async with served.http.get(f"{served.url}/api/v1/events?ids={job_id}", headers=other) as answer:
        assert answer.status == 204
    wish = {"type": "segmentation", "file": file}
    assert (await served.post("/api/v1/jobs", wish, **other))[0] == 404
    files = {"type": "segmentation", "files": [{"file": file}]}
    assert (await served.post("/api/v1/batches", files, **other))[0] == 404
    assert (await served.post("/api/redis", {"hash": job_id, "key": "status"}, **other))[1] == {"value": None}
    assert (await served.post("/api/status", {"hash": job_id}, **other))[1] == {"status": None}
    assert (await served.post("/api/redis/expire", {"hash": job_id}, **other)) == (404, {"value": 0})
    order = {"jobType": "segmentation", "imageName": "cells.tif", "uploadedName": file}
    assert (await served.post("/api/predict", order, **other))[0] == 404
    job = await served.store.get(job_id)
    assert job is not None
    assert job.status == "new"
    await served.worker.complete((await served.worker.claim())[0])
    for query in ("", f"?ids={job_id}"):
        assert (await served.get(f"/api/v1/results{query}", **other))[0] == 404
        async with served.http.get(f"{served.url}/api/v1/results{query}", headers=me) as answer:
            assert answer.status == 200


async def test_the_same_idempotency_key_of_another_owner_is_another_job(serve: Serve) -> None:
    served = await serve(**LOCKED)
    ids = set()
    for key in (await _key(served), await _key(served)):
        _, stored = await served.upload("cells.tif", TIFF, **_as(key))
        wish = {"type": "segmentation", "file": stored["uploadedName"]}
        ids.add((await served.post("/api/v1/jobs", wish, **_as(key), **{"Idempotency-Key": "same"}))[1]["id"])
    assert len(ids) == 2


async def test_keys_of_one_owner_share_its_jobs_and_an_admin_sees_all(serve: Serve) -> None:
    served = await serve(**LOCKED)
    first, second = await _key(served, owner="lab"), await _key(served, owner="lab")
    admin = await _key(served, "admin")
    _, job_id = await _submitted(served, first)
    for key in (second, admin):
        assert (await served.get(f"/api/v1/jobs/{job_id}", **_as(key)))[0] == 200


async def test_resumable_uploads_have_owners(serve: Serve) -> None:
    served = await serve(**LOCKED)
    mine, theirs = _as(await _key(served)), _as(await _key(served))
    tus = {"Tus-Resumable": "1.0.0"}
    piece = {**tus, "Upload-Length": "2", "Upload-Concat": "partial", "Content-Type": "application/offset+octet-stream"}
    async with served.http.post(f"{served.url}/api/v1/uploads", headers={**mine, **piece}, data=b"II") as answer:
        assert answer.status == 201
        place = answer.headers["Location"]
    more = {"Upload-Offset": "2", "Content-Type": "application/offset+octet-stream"}
    joined = {"Upload-Concat": f"final;{place}"}
    for method, path, headers in (
        ("HEAD", place, {}),
        ("GET", place, {}),
        ("PATCH", place, more),
        ("DELETE", place, {}),
        ("POST", place, {"X-HTTP-Method-Override": "DELETE"}),
        ("POST", "/api/v1/uploads", joined),
    ):
        async with served.http.request(method, served.url + path, headers={**theirs, **tus, **headers}) as answer:
            assert answer.status == 404, (method, headers)
    async with served.http.head(served.url + place, headers={**mine, **tus}) as answer:
        assert answer.status == 200


# -- browsers --


async def test_a_browser_signs_in_and_out(serve: Serve) -> None:
    served = await serve(**LOCKED)
    key = await _key(served)
    assert (await served.get("/api/v1/me"))[0] == 401
    assert (await served.post("/api/v1/sign-in", {"key": "wrong"}))[0] == 401
    async with served.http.post(f"{served.url}/api/v1/sign-in", json={"key": key}) as answer:
        assert answer.status == 200
        morsel = answer.cookies["kiosk"]
    assert morsel["httponly"]
    assert morsel["samesite"] == "Strict"
    cookie = {"Cookie": f"kiosk={morsel.value}"}
    assert (await served.get("/api/v1/me", **cookie))[1]["signed_in"]
    assert (await served.get("/api/v1/me", Cookie=f"kiosk={morsel.value[:-2]}xx"))[0] == 401
    for origin, status in ((served.url, 404), ("https://evil.example", 403)):
        assert (await served.post("/api/v1/jobs/x/retry", {}, Origin=origin, **cookie))[0] == status
    async with served.http.delete(f"{served.url}/api/v1/sign-in") as answer:
        assert answer.cookies["kiosk"]["max-age"] == "0"


async def test_the_id_of_a_key_opens_nothing(serve: Serve) -> None:
    served = await serve(**LOCKED)
    key = await _key(served)
    async with served.http.post(f"{served.url}/api/v1/sign-in", json={"key": key}) as answer:
        cookie = {"Cookie": f"kiosk={answer.cookies['kiosk'].value}"}
    assert (await served.get("/api/v1/me", **cookie))[0] == 200  # remembered from now on
    assert (await served.get("/api/v1/me", Authorization=f"Bearer {key.split('_')[1]}"))[0] == 401


async def test_a_revoked_key_ends_its_cookies(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.frontend.auth._REMEMBERED", 0.0)
    served = await serve(**LOCKED)
    key = await _key(served)
    async with served.http.post(f"{served.url}/api/v1/sign-in", json={"key": key}) as answer:
        cookie = {"Cookie": f"kiosk={answer.cookies['kiosk'].value}"}
    assert (await served.get("/api/v1/me", **cookie))[0] == 200
    await KeyStore(served.store.redis, served.store.prefix).revoke(key[3:15])
    assert (await served.get("/api/v1/me", **cookie))[0] == 401
    assert (await served.get("/api/v1/me", **_as(key)))[0] == 401


# -- quotas --


async def test_waiting_jobs_are_limited(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 2})
    for _ in range(2):
        await served.submit()
    order = {"jobType": "segmentation", "imageName": "cells.tif"}
    async with served.http.post(f"{served.url}/api/predict", json=order) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["message"].startswith("2 of your jobs wait already; at most 2 may.")
    await served.worker.claim()
    assert (await served.post("/api/predict", order))[0] == 200


async def test_waiting_jobs_are_limited_however_many_are_ordered_at_once(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 2})
    order = {"jobType": "segmentation", "imageName": "cells.tif"}
    answers = await asyncio.gather(*(served.post("/api/predict", order) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] * 2 + [429] * 6


async def test_trying_again_is_one_more_job_that_waits(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 1})
    job_id = await served.submit()
    async with served.http.delete(f"{served.url}/api/v1/jobs/{job_id}") as answer:
        assert answer.status == 200
    statuses = [(await served.post(f"/api/v1/jobs/{job_id}/retry", {}))[0] for _ in range(3)]
    assert statuses == [201, 429, 429]


async def test_one_known_job_opens_the_door_for_no_batch(serve: Serve) -> None:
    """Whoever knows how the jobs of a batch are keyed may order the first of them by itself before."""
    served = await serve(quotas={"waiting": 2})
    _, stored = await served.upload()
    batch = hashlib.sha256(b"anonymous\nmine").hexdigest()[:32]
    wish = {"type": "segmentation", "file": stored["uploadedName"]}
    status, _ = await served.post("/api/v1/jobs", wish, **{"Idempotency-Key": f"batch:{batch}:0"})
    assert status == 201
    files = {"type": "segmentation", "files": [{"file": stored["uploadedName"]}] * 5}
    assert (await served.post("/api/v1/batches", files, **{"Idempotency-Key": "mine"}))[0] == 429
    assert len((await served.get("/api/v1/jobs"))[1]["jobs"]) == 1


async def test_requests_are_limited(serve: Serve) -> None:
    served = await serve(quotas={"requests": 0.5})
    statuses = [(await served.get("/api/v1/models"))[0] for _ in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    assert (await served.get("/api/health-check"))[0] == 200


async def test_bytes_are_limited(serve: Serve) -> None:
    served = await serve(quotas={"upload_bytes": 1500})
    assert (await served.upload())[0] == 200
    status, answer = await served.upload("large.tif", TIFF * 4)
    assert (status, answer["code"]) == (429, "too-many-bytes")
    assert (await served.upload())[0] == 200


async def test_bytes_that_are_joined_count_as_those_that_are_sent(serve: Serve) -> None:
    served = await serve(quotas={"upload_bytes": 2000})
    tus = {"Tus-Resumable": "1.0.0"}

    async def create(**headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with served.http.post(f"{served.url}/api/v1/uploads", data=b"", headers={**tus, **named}) as answer:
            return answer.status, answer.headers.get("Location", "")

    status, part = await create(Upload_Concat="partial", Upload_Length=str(len(TIFF)))
    assert status == 201
    patch = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    async with served.http.patch(served.url + part, data=TIFF, headers=patch) as answer:
        assert answer.status == 204
    assert (await create(Upload_Concat=f"final;{part} {part}"))[0] == 201
    assert (await create(Upload_Concat=f"final;{part} {part} {part}"))[0] == 429
    assert len([one async for one in served.front.storage.list("uploads/")]) == 1


async def test_size_and_number_of_uploads_are_limited(serve: Serve) -> None:
    served = await serve(uploads={"max_bytes": 1000, "concurrent": 1})
    status, answer = await served.upload("large.tif", TIFF * 4)
    assert (status, answer["message"]) == (413, "The file 'large.tif' is larger than the 1,000 bytes allowed.")
    body, kind = multipart("cells.tif", TIFF)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():  # type: ignore[no-untyped-def]
        yield body[:400]
        begun.set()
        await go_on.wait()
        yield body[400:]

    first = asyncio.create_task(
        served.http.post(f"{served.url}/api/upload", data=slowly(), headers={"Content-Type": kind})
    )
    await begun.wait()
    while not served.front.uploads.running:
        await asyncio.sleep(0)
    assert (await served.upload())[0] == 503
    go_on.set()
    assert (await first).status == 200
    assert (await served.upload())[0] == 200
