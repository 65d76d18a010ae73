"""What the four known clients do, in their order, against a worker that completes jobs through the real store."""

from __future__ import annotations

import io
import zipfile

from tests.fixtures.frontend import TIFF, Served


def _zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_tiff", ".tiff"), data)
    return buffer.getvalue()


async def _poll(served: Served, job_id: str, path: str = "/api/redis") -> str:
    """Poll the status field until it is final, as clients do; each answer is a round trip, so no sleep is needed."""
    while True:
        _, answer = await served.post(path, {"hash": job_id, "key": "status"})
        if answer["value"] in {"done", "failed"}:
            return str(answer["value"])


async def test_batch_client(working: Served) -> None:
    async with working.http.get(working.url + "/") as answer:
        assert answer.status < 500
    _, stored = await working.upload("field_1.tif")
    order = {
        "jobType": "segmentation",
        "imageName": "field_1.tif",
        "uploadedName": stored["uploadedName"],
        "imageUrl": stored["imageURL"],
        "modelName": "NuclearSegmentation",
        "modelVersion": "1",
        "preprocessFunction": "",
        "postprocessFunction": "",
        "dataRescale": "1",
    }
    _, answer = await working.post("/api/predict", order)
    job_id = answer["hash"]
    assert await _poll(working, job_id) == "done"
    read = [
        *("created_at", "finished_at", "reason", "output_url", "prediction_time", "predict_retries"),
        *("postprocess_time", "upload_time", "download_time", "children_upload_time", "cleanup_time"),
        *("total_jobs", "total_time"),
    ]
    found = {}
    for key in read:
        status, answer = await working.post("/api/redis", {"hash": job_id, "key": key})
        assert status == 200
        found[key] = answer["value"]
    assert found["created_at"].endswith("+00:00")
    assert found["finished_at"] >= found["created_at"]
    assert float(found["total_time"]) > 0
    async with working.http.get(found["output_url"]) as result:
        assert result.status == 200
        archive = zipfile.ZipFile(io.BytesIO(await result.read()))
    assert archive.namelist() == ["field_1_batch_0_feature_0.tif"]
    assert await working.post("/api/redis/expire", {"hash": job_id, "expireIn": 90}) == (200, {"value": 1})


async def test_imagej_plugin(working: Served) -> None:
    status, types = await working.get("/api/jobtypes/")
    assert status == 200
    body_status, stored = await working.upload("stack.tif")
    assert body_status == 200
    order = {"jobType": types["jobTypes"][0], "imageName": "stack.tif", "uploadedName": stored["uploadedName"]}
    _, answer = await working.post("/api/predict/", order)
    job_id = answer["hash"]
    while (await working.post("/api/status/", {"hash": job_id}))[1]["status"] != "done":
        pass
    _, answer = await working.post("/api/redis/", {"hash": job_id, "key": "output_url"})
    url = answer["value"]
    assert url.endswith(".zip")
    async with working.http.get(url) as result:
        archive = zipfile.ZipFile(io.BytesIO(await result.read()))
    assert archive.namelist()[0].endswith(".tif")
    assert (await working.post("/api/redis/expire/", {"hash": job_id, "expireIn": 3600}))[1] == {"value": 1}


async def test_analysis_library(working: Served) -> None:
    archive = _zip_of(fov1_tiff=TIFF, fov2_tiff=TIFF)
    _, stored = await working.upload("fovs.zip", archive)
    order = {
        "jobType": "mesmer",
        "imageName": "fovs.zip",
        "imageUrl": stored["imageURL"],
        "uploadedName": stored["uploadedName"],
        "dataRescale": 1.0,
    }
    _, answer = await working.post("/api/predict", order)
    job_id = answer["hash"]
    keys = ["status", "progress", "output_url", "reason", "failures"]
    while True:
        _, answer = await working.post("/api/redis", {"hash": job_id, "key": keys})
        status, progress, output_url, reason, failures = answer["value"]
        if status == "done":
            break
    assert int(progress) == 100
    assert failures == ""
    assert reason is None
    async with working.http.get(output_url) as result:
        names = zipfile.ZipFile(io.BytesIO(await result.read())).namelist()
    assert names == ["fovs_feature_0.tif", "fovs_feature_1.tif"]
    assert await working.post("/api/redis/expire", {"hash": job_id, "expireIn": 90}) == (200, {"value": 1})


async def test_browser_page(working: Served) -> None:
    _, types = await working.get("/api/jobtypes")
    _, models = await working.get("/api/models")
    assert types["jobTypes"]
    assert models["models"]
    form = {"dimensionOrder": "XYB", "selectedChannels": [0], "scale": "1", "segmentationType": ""}
    job_id = await working.submit("dropped.png.tif", jobForm=form)
    keys = ["status", "progress", "output_url", "reason", "failures", "dim_order"]
    while True:
        _, answer = await working.post("/api/redis", {"hash": job_id, "key": keys})
        values = dict(zip(keys, answer["value"], strict=True))
        if values["status"] in {"done", "failed"}:
            break
    assert values["status"] == "done"
    assert values["dim_order"] == "XY"
    assert values["progress"] == "100"
    assert values["output_url"].startswith(working.url)
