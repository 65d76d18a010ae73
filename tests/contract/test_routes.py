"""Every route of the compatible API: statuses and shapes."""

from __future__ import annotations

import re

import pytest

from shared.jobs.model import new_id
from tests.fixtures.frontend import TIFF, Served, multipart

POSTS = ("/api/upload", "/api/predict", "/api/status", "/api/redis", "/api/redis/expire")


@pytest.mark.parametrize("slash", ["", "/"])
async def test_health_check(served: Served, slash: str) -> None:
    assert await served.get(f"/api/health-check{slash}") == (200, {"message": "OK"})


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", ["cells.tif", r"C:\\data\\cells.tif", "/home/me/cells.tif"])
async def test_upload_keeps_the_base_name_and_is_readable(served: Served, name: str, slash: str) -> None:
    body, kind = multipart(name, TIFF, kind="text/plain")
    status, answer = await served.post(f"/api/upload{slash}", body, **{"Content-Type": kind})
    assert status == 200
    assert set(answer) == {"imageURL", "uploadedName"}
    assert re.fullmatch(r"uploads/[0-9a-f]{32}\.tif", answer["uploadedName"])
    async with served.http.get(answer["imageURL"]) as image:
        assert image.status == 200
        assert await image.read() == TIFF
    stat = await served.front.storage.stat(answer["uploadedName"])
    assert stat.metadata["name"] == "cells.tif"


async def test_upload_without_a_file_is_refused(served: Served) -> None:
    body, kind = multipart("cells.tif", TIFF, field="other")
    status, answer = await served.post("/api/upload", body, **{"Content-Type": kind})
    assert (status, answer["message"]) == (400, "The body has no file in the field 'file'.")


async def test_predict_takes_the_least_and_the_most(served: Served) -> None:
    _, stored = await served.upload()
    least = {"jobType": "segmentation", "imageName": stored["uploadedName"]}
    status, answer = await served.post("/api/predict/", least)
    assert (status, set(answer)) == (200, {"hash"})
    most = {
        "jobType": "segmentation",
        "imageName": "my cells.tif",
        "uploadedName": stored["uploadedName"],
        "imageUrl": stored["imageURL"],
        "modelName": "NuclearSegmentation",
        "modelVersion": 2,
        "preprocessFunction": "",
        "postprocessFunction": "deepcell",
        "cuts": "0",
        "dataLabel": "",
        "dataRescale": "0.5",
        "jobForm": {"dimensionOrder": "YX", "selectedChannels": "0, 2", "scale": "", "segmentationType": ""},
    }
    status, answer = await served.post("/api/predict", most)
    job = await served.store.get(answer["hash"])
    assert job is not None
    assert job.options == {"dimension_order": "YX", "channels": [0, 2], "scale": 0.5}
    facts = {"model", "model_version", "postprocess", "original_name", "input_file_name", "uses"}
    assert {name: job.fields[name] for name in facts} == {
        "model": "NuclearSegmentation",
        "model_version": "2",
        "postprocess": "deepcell",
        "original_name": "my cells.tif",
        "input_file_name": stored["uploadedName"],
        "uses": f'["{stored["uploadedName"]}"]'.replace("/", "\\/"),
    }


async def test_blanks_mean_the_default(served: Served) -> None:
    blank = {"dimensionOrder": "", "selectedChannels": "", "scale": "", "segmentationType": "cell culture"}
    job_id = await served.submit(modelName="", modelVersion="", dataRescale="", jobForm=blank)
    job = await served.store.get(job_id)
    assert job is not None
    assert job.options == {}
    assert job.fields["model_version"] == ""


@pytest.mark.parametrize("given", [[0, 1], ["0", "1"], "0,1", "[0, 1]"])
async def test_channels_in_every_form(served: Served, given: object) -> None:
    job = await served.store.get(await served.submit(jobForm={"selectedChannels": given}))
    assert job is not None
    assert job.options["channels"] == [0, 1]


@pytest.mark.parametrize("missing", ["jobType", "imageName"])
async def test_predict_needs_its_fields(served: Served, missing: str) -> None:
    order = {"jobType": "segmentation", "imageName": "cells.tif"}
    del order[missing]
    status, answer = await served.post("/api/predict", order)
    assert (status, answer["message"]) == (400, f"The field {missing!r} is missing.")


async def test_predict_refuses_an_unknown_job_type(served: Served) -> None:
    status, answer = await served.post("/api/predict", {"jobType": "magic", "imageName": "cells.tif"})
    assert status == 400
    assert answer["message"] == "There is no job type 'magic'; the job types are: segmentation, mesmer."


@pytest.mark.parametrize("name", ["many.zip", "many.ZIP", "many.tar.gz"])
async def test_an_archive_becomes_an_archive_job(served: Served, name: str) -> None:
    order = {"jobType": "multiplex", "imageName": name, "uploadedName": f"uploads/{name}"}
    _, answer = await served.post("/api/predict", order)
    assert answer["hash"].startswith("archive:")
    job = await served.store.get(answer["hash"])
    assert job is not None
    assert job.fields["item_type"] == "mesmer"


async def test_nobody_names_the_archive_queue(served: Served) -> None:
    status, _ = await served.post("/api/predict", {"jobType": "archive", "imageName": "many.zip"})
    assert status == 400


async def test_status(served: Served) -> None:
    job_id = await served.submit()
    assert await served.post("/api/status", {"hash": job_id}) == (200, {"status": "new"})
    assert await served.post("/api/status/", {"hash": new_id("segmentation")}) == (200, {"status": None})


async def test_redis_answers_one_field_or_a_list_in_order(served: Served) -> None:
    job_id = await served.submit()
    assert await served.post("/api/redis", {"hash": job_id, "key": "status"}) == (200, {"value": "new"})
    keys = ["progress", "nothing", "status"]
    assert await served.post("/api/redis/", {"hash": job_id, "key": keys}) == (200, {"value": ["0", None, "new"]})
    unknown = new_id("segmentation")
    assert await served.post("/api/redis", {"hash": unknown, "key": "status"}) == (200, {"value": None})
    assert await served.post("/api/redis", {"hash": unknown, "key": keys}) == (200, {"value": [None] * 3})


@pytest.mark.parametrize("key", ["{p}types", "types", "queue:segmentation", "leases:segmentation", "../types", "", "*"])
async def test_redis_reaches_job_hashes_only(served: Served, prefix: str, key: str) -> None:
    name = key.replace("{p}", prefix)
    status, answer = await served.post("/api/redis", {"hash": name or "x", "key": "segmentation"})
    assert (status, answer) == (200, {"value": None})
    assert await served.post("/api/redis/expire", {"hash": name or "x"}) == (404, {"value": 0})
    assert await served.store.types()


@pytest.mark.parametrize("seconds", [90, "90", None])
async def test_expire_of_an_unfinished_job_runs_from_its_end(served: Served, seconds: object) -> None:
    job_id = await served.submit()
    body = {"hash": job_id} | ({} if seconds is None else {"expireIn": seconds})
    assert await served.post("/api/redis/expire", body) == (200, {"value": 1})
    assert await served.store.due() == ([], None)
    (job,) = await served.worker.claim()
    await served.worker.complete(job)
    _, due = await served.store.due()
    assert due is not None
    wanted = 90 if seconds else 3600
    assert wanted - 5 < due <= wanted


async def test_job_types_and_models(served: Served) -> None:
    assert await served.get("/api/jobtypes") == (200, {"jobTypes": ["segmentation", "mesmer"]})
    models = {"NuclearSegmentation": ["1", "2"], "MultiplexSegmentation": ["9"]}
    assert await served.get("/api/models/") == (200, {"models": models})


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/redis/keys", "/api/predict", "/api/jobs/1"])
async def test_anything_else_is_an_empty_object(served: Served, path: str) -> None:
    assert await served.get(path) == (404, {})


async def test_every_answer_may_be_read_by_other_pages(served: Served) -> None:
    async with served.http.get(f"{served.url}/api/nothing", headers={"Origin": "https://lab.example"}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    async with served.http.options(f"{served.url}/api/predict", headers=asked) as answer:
        assert answer.status == 204
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]


async def test_origins_can_be_limited(serve) -> None:  # type: ignore[no-untyped-def]
    served = await serve(cors_origins=["https://lab.example"])
    for origin, told in (("https://lab.example", "https://lab.example"), ("https://other.example", None)):
        async with served.http.get(f"{served.url}/api/jobtypes", headers={"Origin": origin}) as answer:
            assert answer.headers.get("Access-Control-Allow-Origin") == told


@pytest.mark.parametrize("path", POSTS)
async def test_a_post_is_never_redirected_and_errors_are_json(served: Served, path: str) -> None:
    for slash in ("", "/"):
        async with served.http.post(served.url + path + slash, data=b"{", allow_redirects=False) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"]
