"""API v1: jobs, lists, results, problems."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest

from services.frontend.app import make_app
from shared.errors import Misconfigured, StorageFull
from shared.jobs import Job
from shared.jobs.model import new_id
from tests.fixtures.frontend import TIFF, Serve, Served, multipart


async def _file(served: Served, name: str = "cells.tif") -> str:
    body, kind = multipart(name, TIFF)
    status, stored = await served.post("/api/v1/files", body, **{"Content-Type": kind})
    assert status == 201
    return str(stored["file"])


def _form(**fields: str) -> tuple[bytes, str]:
    parts = [f'--edge\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    body, kind = multipart("cells.tif", TIFF)
    return "".join(parts).encode() + body, kind


async def test_a_file_is_told_with_its_checksum(served: Served) -> None:
    import hashlib

    body, kind = multipart("Zellen übung.tif", TIFF)
    status, stored = await served.post("/api/v1/files", body, **{"Content-Type": kind})
    assert status == 201
    assert stored["sha256"] == hashlib.sha256(TIFF).hexdigest()
    assert (stored["name"], stored["size"], stored["media_type"]) == ("Zellen übung.tif", len(TIFF), "image/tiff")


async def test_a_job_from_a_file(served: Served) -> None:
    wish = {"type": "segmentation", "file": await _file(served), "options": {"scale": 0.5}, "priority": 5}
    async with served.http.post(f"{served.url}/api/v1/jobs", json=wish) as answer:
        assert answer.status == 201
        job = await answer.json()
        assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["status"], job["name"], job["position"]) == ("new", "cells.tif", 1)
    assert (job["options"], job["model"], job["priority"]) == ({"scale": 0.5}, "NuclearSegmentation", 5)
    assert (await served.get(job["links"]["self"]))[1]["id"] == job["id"]


@pytest.mark.parametrize(
    "fields",
    [{"type": "segmentation", "options": '{"scale": 2}'}, {"job": '{"type": "segmentation", "options": {"scale": 2}}'}],
)
async def test_file_and_job_in_one_go(served: Served, fields: dict[str, str]) -> None:
    body, kind = _form(**fields)
    status, job = await served.post("/api/v1/jobs", body, **{"Content-Type": kind})
    assert (status, job["options"], job["name"]) == (201, {"scale": 2}, "cells.tif")


async def test_options_may_come_as_a_file(served: Served) -> None:
    body, kind = _form(type="segmentation")
    options, _ = multipart("options.json", b'{"scale": 2}', "options")
    status, job = await served.post(
        "/api/v1/jobs", options.removesuffix(b"--edge--\r\n") + body, **{"Content-Type": kind}
    )
    assert (status, job["options"]) == (201, {"scale": 2})


async def test_an_idempotency_key_gives_the_same_job(served: Served) -> None:
    wish = {"type": "segmentation", "file": await _file(served)}
    first = await served.post("/api/v1/jobs", wish, **{"Idempotency-Key": "one"})
    again = await served.post("/api/v1/jobs", wish, **{"Idempotency-Key": "one"})
    other = await served.post("/api/v1/jobs", wish, **{"Idempotency-Key": "two"})
    assert [first[0], again[0], other[0]] == [201, 200, 201]
    assert first[1]["id"] == again[1]["id"] != other[1]["id"]


async def _put(served: Served, job_id: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{served.url}/api/v1/jobs/{job_id}"
    async with served.http.put(url, data=io.BytesIO(data), headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_put_is_idempotent(served: Served) -> None:
    job_id = new_id("segmentation")
    wish = {"type": "segmentation", "file": await _file(served), "options": {"scale": 2, "channels": [0]}}
    for expected in (201, 200):
        status, job = await _put(served, job_id, wish)
        assert (status, job["id"]) == (expected, job_id)
    status, problem = await _put(served, new_id("mesmer"), wish)
    assert (status, problem["code"]) == (400, "bad-id")


async def test_put_is_idempotent_also_with_the_file_in_it(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 1})
    job_id = new_id("segmentation")
    body, kind = _form(type="segmentation")
    for expected in (201, 200):
        status, job = await _put(served, job_id, body, **{"Content-Type": kind})
        assert (status, job["id"]) == (expected, job_id), "nor is it one more that waits"
    other, kind = _form(type="segmentation", name="other.tif")
    status, problem = await _put(served, job_id, other.replace(TIFF, TIFF + b"!"), **{"Content-Type": kind})
    assert (status, problem["code"]) == (409, "conflict")
    assert "with another file and name" in problem["detail"]


_OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"options": {"scale": 3}}, "options"),
    ({"options": {}}, "options"),
    ({"priority": 1, "batch": "0" * 32}, "priority and batch"),
    ({"model": "MultiplexSegmentation", "model_version": "9"}, "model and model_version"),
    ({"name": "else.tif"}, "name"),
    ({"type": "mesmer"}, "type"),
    ({"file": "", "options": {}, "name": "cells.tif"}, "file and options"),
]


@pytest.mark.parametrize(("change", "said"), _OTHERS)
async def test_another_order_under_the_same_name_is_refused_and_says_what_differs(
    served: Served, change: dict[str, Any], said: str
) -> None:
    job_id = new_id("segmentation")
    wish = {"type": "segmentation", "file": await _file(served), "options": {"scale": 2}}
    other = wish | change
    if not other["file"]:
        body, kind = multipart("cells.tif", TIFF + b"!")
        other["file"] = (await served.post("/api/v1/files", body, **{"Content-Type": kind}))[1]["file"]
    key = {"Idempotency-Key": "one"}
    assert (await served.post("/api/v1/jobs", wish, **key))[0] == 201
    status, problem = await served.post("/api/v1/jobs", other, **key)
    expected = said if "type" not in change else "type and model"
    assert (status, problem["code"]) == (422, "idempotency-key-reused")
    assert f"with another {expected}." in problem["detail"]
    if "type" not in change:  # the id holds the type
        assert (await _put(served, job_id, wish))[0] == 201
        status, problem = await _put(served, job_id, other)
        assert (status, problem["code"]) == (409, "conflict")
        assert f"with another {expected}, and" in problem["detail"]


async def test_a_batch_that_is_sent_again_with_its_key_is_the_same_batch(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 3})
    files = [{"file": await _file(served, f"cells_{number}.tif")} for number in range(3)]
    key = {"Idempotency-Key": "one"}
    wish = {"type": "segmentation", "files": files}
    first = await served.post("/api/v1/batches", wish, **key)
    again = await served.post("/api/v1/batches", wish, **key)
    assert (first[0], again[0]) == (201, 200)
    assert first[1] == again[1], "nor are they three more that wait"
    for other in ({"options": {"scale": 2}}, {"files": files[:2]}, {"files": [files[0], files[2], files[1]]}):
        status, problem = await served.post("/api/v1/batches", wish | other, **key)
        assert (status, problem["code"]) == (422, "idempotency-key-reused")
    assert (await served.post("/api/v1/batches", wish, **{"Idempotency-Key": "two"}))[0] == 429
    assert len((await served.get("/api/v1/jobs"))[1]["jobs"]) == 3


async def test_a_key_used_again_is_not_one_more_job_that_waits(serve: Serve) -> None:
    served = await serve(quotas={"waiting": 1})
    wish = {"type": "segmentation", "file": await _file(served)}
    statuses = [(await served.post("/api/v1/jobs", wish, **{"Idempotency-Key": key}))[0] for key in "aab"]
    assert statuses == [201, 200, 429]


async def test_lists_are_paged_and_filtered(served: Served) -> None:
    files = [{"file": await _file(served, f"cells_{n}.tif")} for n in range(7)]
    _, batch = await served.post("/api/v1/batches", {"type": "segmentation", "files": files})
    await served.http.delete(f"{served.url}/api/v1/jobs/{batch['jobs'][0]}")
    seen: list[str] = []
    cursor = ""
    while True:
        status, page = await served.get(f"/api/v1/jobs?limit=3&cursor={cursor}")
        assert status == 200
        seen += [job["id"] for job in page["jobs"]]
        if not (cursor := page["cursor"]):
            break
    assert sorted(seen) == sorted(batch["jobs"])
    assert len(seen) == 7
    _, page = await served.get("/api/v1/jobs?status=canceled")
    assert [job["id"] for job in page["jobs"]] == batch["jobs"][:1]
    _, page = await served.get("/api/v1/jobs?type=mesmer")
    assert page == {"jobs": [], "cursor": None}


async def test_a_batch_of_any_size_is_read_and_canceled_some_jobs_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0
    cancel, fields_of_many = served.store.cancel, served.store.fields_of_many

    async def canceled(job_id: str, by: str) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await cancel(job_id, by)
        finally:
            under_way -= 1

    async def read(asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[str | None]]:
        assert len(asked) <= 3
        return await fields_of_many(asked)

    monkeypatch.setattr("services.frontend.v1.batches._READ", 3)
    monkeypatch.setattr("services.frontend.v1.batches._AT_ONCE", 2)
    monkeypatch.setattr(served.store, "cancel", canceled)
    monkeypatch.setattr(served.store, "fields_of_many", read)
    files = [{"file": await _file(served)} for _ in range(7)]
    _, batch = await served.post("/api/v1/batches", {"type": "segmentation", "files": files})
    assert (await served.get(f"/api/v1/batches/{batch['id']}"))[1] == batch
    async with served.http.delete(f"{served.url}/api/v1/batches/{batch['id']}") as answer:
        assert await answer.json() == {"canceled": 7}
    assert most == 2


async def test_cancel_and_retry(served: Served) -> None:
    job_id = await served.submit()
    async with served.http.delete(f"{served.url}/api/v1/jobs/{job_id}") as answer:
        assert await answer.json() == {"canceled": 1}
    async with served.http.delete(f"{served.url}/api/v1/jobs/{job_id}") as answer:
        assert await answer.json() == {"canceled": 0}
    status, job = await served.post(f"/api/v1/jobs/{job_id}/retry", {})
    assert (status, job["status"], job["revived_from"]) == (201, "new", job_id)
    status, problem = await served.post(f"/api/v1/jobs/{job['id']}/retry", {})
    assert (status, problem["code"]) == (409, "not-revivable")


async def test_a_batch_counts_each_file_once_however_often_it_is_tried(served: Served) -> None:
    _, file = await served.upload()
    wish = {"type": "segmentation", "files": [{"file": file["uploadedName"], "name": f"{n}.tif"} for n in range(2)]}
    key = {"Idempotency-Key": "fields"}
    _, batch = await served.post("/api/v1/batches", wish, **key)
    first, second = await served.worker.claim(2)
    await served.worker.complete(first)
    await served.store.fail("stand-in", second.held, "The model server was away.")
    _, again = await served.post(f"/api/v1/jobs/{second.id}/retry", {})
    _, told = await served.get(f"/api/v1/batches/{batch['id']}")
    assert (told["total"], told["counts"]) == (2, {"done": 1, "new": 1})
    assert set(told["jobs"]) == {first.id, again["id"]}
    (third,) = await served.worker.claim()
    await served.worker.complete(third)
    async with served.http.get(f"{served.url}/api/v1/batches/{batch['id']}/result") as answer:
        names = zipfile.ZipFile(io.BytesIO(await answer.read())).namelist()
    assert [name.partition("/")[0] for name in names] == ["0", "1"]
    # The same order again is still the same batch.
    status, same = await served.post("/api/v1/batches", wish, **key)
    assert (status, same["id"]) == (200, batch["id"])


async def test_results_of_a_job(working: Served) -> None:
    job_id = await working.submit("cells.tif")
    async with working.http.get(f"{working.url}/api/v1/jobs/{job_id}/events") as answer:
        await answer.read()
    _, job = await working.get(f"/api/v1/jobs/{job_id}")
    assert job["status"] == "done"
    assert job["seconds"]["total"] == 0.1
    for name, kind in (("result", "application/zip"), ("preview", "image/png"), ("view", "application/octet-stream")):
        async with working.http.get(working.url + job["links"][name]) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
    async with working.http.get(job["links"]["download"]) as answer:
        assert answer.status == 200


async def test_no_result_before_the_end(served: Served) -> None:
    job_id = await served.submit()
    status, problem = await served.get(f"/api/v1/jobs/{job_id}/result")
    assert (status, problem["code"], problem["detail"]) == (404, "no-result", "The job has not ended yet.")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/v1/jobs/nothing", None, 404, "no-such-job"),
        ("GET", f"/api/v1/jobs/segmentation:{'0' * 32}", None, 404, "no-such-job"),
        ("GET", "/api/v1/batches/none", None, 404, "no-such-batch"),
        ("GET", "/api/v1/nothing", None, 404, "not-found"),
        ("PATCH", "/api/v1/jobs", None, 405, "method-not-allowed"),
        ("GET", "/api/v1/jobs?limit=0", None, 400, "invalid-field"),
        ("GET", "/api/v1/jobs?limit=-1", None, 400, "invalid-field"),
        ("GET", "/api/v1/jobs?cursor=zzz", None, 400, "bad-cursor"),
        ("GET", "/api/v1/jobs?status=odd", None, 400, "invalid-field"),
        ("GET", "/api/v1/events", None, 400, "invalid-field"),
        ("POST", "/api/v1/jobs", {"type": "segmentation"}, 400, "missing-field"),
        ("POST", "/api/v1/jobs", {"type": "segmentation", "file": "a.tif"}, 404, "no-such-file"),
        ("POST", "/api/v1/jobs", {"type": "segmentation", "file": "a.tif", "x": 1}, 400, "invalid-field"),
        ("POST", "/api/v1/jobs", {"type": "none", "file": "a.tif"}, 400, "unknown-job-type"),
        ("POST", "/api/v1/batches", {"type": "segmentation", "files": []}, 400, "invalid-field"),
        ("PUT", "/api/v1/jobs/hello", {}, 400, "bad-id"),
    ],
)
async def test_problems(  # type: ignore[no-untyped-def]
    served: Served, method: str, path: str, body, status: int, code: str
) -> None:
    data = json.dumps(body).encode() if body is not None else None
    async with served.http.request(method, served.url + path, data=data) as answer:
        problem = await answer.json()
        assert answer.content_type == "application/problem+json"
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["detail"].endswith(".")


@pytest.mark.parametrize(
    ("options", "code", "detail"),
    [
        ({"scale": 1000}, "invalid-option", "The option scale is wrong: 1000 is greater than the maximum of 10.0."),
        ({"scale": "1"}, "invalid-option", "The option scale is wrong: '1' is not of type 'number'."),
        (
            {"colour": "red"},
            "unknown-option",
            (
                "The job type segmentation has no option colour; its options are: dimension_order, scale, "
                "pixel_size_um, detect_scale, channels."
            ),
        ),
    ],
)
async def test_options_are_checked_before_any_work(  # type: ignore[no-untyped-def]
    served: Served, options, code: str, detail: str
) -> None:
    wish = {"type": "segmentation", "file": await _file(served), "options": options}
    status, problem = await served.post("/api/v1/jobs", wish)
    assert (status, problem["code"], problem["detail"]) == (400, code, detail)


async def test_a_full_disk_is_told_and_leaves_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_args: object, **_kwargs: object) -> None:
        raise StorageFull("The storage is full: nothing was written.")

    monkeypatch.setattr(served.front.storage, "put", full)
    status, answer = await served.upload()
    assert (status, answer["message"]) == (507, "The storage is full: nothing was written.")


async def test_expiry(served: Served) -> None:
    job_id = await served.submit()
    for seconds, status in ((60, 200), (None, 200), (-1, 400)):
        async with served.http.put(f"{served.url}/api/v1/jobs/{job_id}/expiry", json={"seconds": seconds}) as answer:
            assert answer.status == status


async def test_the_document_names_every_route(served: Served) -> None:
    status, document = await served.get("/api/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert (await served.get("/api/swagger.json"))[1] == document
    described = set(document["paths"])
    hidden = {"/api", "/", "/docs", "/about", "/favicon.ico", "/api/openapi.json", "/api/swagger.json"}
    for resource in make_app(served.front).router.resources():
        path = resource.canonical.rstrip("/") or "/"
        if not path.startswith(("/static", "/results", "/uploads", "/api/v1/uploads")) and "any" not in path:
            assert path in described | hidden, path


USED = {"gpu_seconds": "36.0", "cpu_seconds": "7.2", "bytes_in": "600", "bytes_out": "1000"}


async def test_a_job_tells_what_it_used(served: Served) -> None:
    job_id = await served.submit()
    assert (await served.get(f"/api/v1/jobs/{job_id}"))[1]["cost"] is None
    await served.worker.complete((await served.worker.claim())[0], USED)
    cost = (await served.get(f"/api/v1/jobs/{job_id}"))[1]["cost"]
    assert cost == {
        "gpu_seconds": 36.0,
        "cpu_seconds": 7.2,
        "bytes_in": 600,
        "bytes_out": 1000,
        **dict.fromkeys(("gpu", "cpu", "network", "total", "prices", "currency")),
    }


async def test_what_jobs_used_is_priced_and_summed_by_batch(serve: Serve) -> None:
    machines = {"gpu_machine": "n1-standard-1,nvidia-tesla-t4", "cpu_machine": "n1-standard-4"}
    served = await serve(cost=machines)
    wish = {"type": "segmentation", "files": [{"file": await _file(served)} for _ in range(3)]}
    _, batch = await served.post("/api/v1/batches", wish)
    assert batch["cost"] is None
    for job in await served.worker.claim(2):
        await served.worker.complete(job, USED)
    done = [(await served.get(f"/api/v1/jobs/{job_id}"))[1]["cost"] for job_id in batch["jobs"]]
    done = [cost for cost in done if cost is not None]
    assert len(done) == 2
    assert done[0]["gpu"] == pytest.approx((0.0475 + 0.95) / 100)
    assert done[0]["total"] == pytest.approx(done[0]["gpu"] + done[0]["cpu"] + done[0]["network"])
    summed = (await served.get(f"/api/v1/batches/{batch['id']}"))[1]["cost"]
    assert summed["total"] == pytest.approx(2 * done[0]["total"])
    assert (summed["gpu_seconds"], summed["prices"], summed["currency"]) == (72, "2019-06", "$")
    job_id = (await _done(served, batch))[0].id
    async with served.http.get(f"{served.url}/api/v1/jobs/{job_id}/events") as stream:
        told = [json.loads(line[6:]) async for line in stream.content if line.startswith(b'data: {"id')]
    assert told[-1]["cost"] == done[0]


async def test_a_machine_without_a_price_stops_the_frontend(serve: Serve) -> None:
    with pytest.raises(Misconfigured, match="no price for the machine 'e9-huge-1'"):
        await serve(cost={"gpu_machine": "e9-huge-1", "cpu_machine": "n1-standard-4"})


async def _done(served: Served, batch: dict[str, Any]) -> list[Job]:
    return [job for job in await served.store.get_many(batch["jobs"]) if job is not None and job.status == "done"]


async def test_results_of_a_batch_in_one_zip(served: Served) -> None:
    names = ["cells.tif", "Cells.png", "zwölf.tif", "late.tif", "bad.tif"]
    files = [{"file": await _file(served), "name": name} for name in names]
    _, batch = await served.post("/api/v1/batches", {"type": "segmentation", "files": files})
    address = f"{served.url}/api/v1/batches/{batch['id']}/result"
    status, problem = await served.get(f"/api/v1/batches/{batch['id']}/result")
    assert (status, problem["code"]) == (404, "no-result")
    jobs = {job.fields["original_name"]: job for job in await served.worker.claim(5)}
    for name in ("cells.tif", "Cells.png", "zwölf.tif"):
        await served.worker.complete(jobs[name])
    await served.store.fail("stand-in", jobs["bad.tif"].held, "The image has no pixels.")
    other = await served.submit("alone.tif")
    (job,) = await served.worker.claim()
    await served.worker.complete(job)

    folders = ["Cells/Cells", "cells (2)/cells", "zwölf/zwölf"]
    members = [f"{folder}_batch_0_feature_0.tif" for folder in folders]
    found = await _unzipped(served, address)
    assert found == {
        **dict.fromkeys(members, TIFF),
        "NOT-INCLUDED.txt": b"bad.tif: The image has no pixels.\nlate.tif: It has not ended yet.\n",
    }
    assert set(await _unzipped(served, f"{served.url}/api/v1/results")) >= {
        *members,
        "alone/alone_batch_0_feature_0.tif",
    }
    some = await _unzipped(served, f"{served.url}/api/v1/results?ids={other},{jobs['zwölf.tif'].id}")
    assert list(some) == ["alone/alone_batch_0_feature_0.tif", members[2]]
    assert (await served.get("/api/v1/results?ids=what"))[0] == 400


async def _unzipped(served: Served, address: str) -> dict[str, bytes]:
    async with served.http.get(address) as answer:
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="results-')
        with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
