"""Archives end to end: each image a job of its own, results under their paths, failures named."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from services.consumer.pipelines.archive import merge
from shared.jobs import Job
from tests.fixtures.consumer import Consumer, cells, labels_of, tiff


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


async def run(consumer: Consumer, content: bytes, name: str = "all.zip") -> Job:
    return await consumer.run("archive", content, name, item_type="segmentation")


@pytest.mark.parametrize(("pack", "name"), [(zipped, "all.zip"), (tarred, "all.tar.gz")])
async def test_results_lie_where_the_images_lay(consumer: Consumer, pack: object, name: str) -> None:
    image, truth = cells(96, 144)
    files = {"a, b.tif": tiff(image), "Ordner/ß/c:d.tif": tiff(image), "notes.txt": b"no image"}
    job = await run(consumer, pack(files), name)  # type: ignore[operator]
    entries = await consumer.result(job)
    assert sorted(entries) == ["Ordner/ß/c:d_batch_0_feature_0.tif", "a, b_batch_0_feature_0.tif"]
    assert all(labels_of(data).max() == truth.max() for data in entries.values())
    assert job.fields["total_jobs"] == "2"
    assert job.fields["failures"] == ""
    parts = [await consumer.bench.store.get(child) for child in await consumer.bench.store.children(job.id)]
    assert {part.fields["scale"] for part in parts if part} == {job.fields["scale"]}
    assert len(job.fields["prediction_time"].split(",")) == len(job.fields["upload_time"].split(",")) == 2
    assert [name for name, _reason in json.loads(job.fields["skipped"])] == ["notes.txt"]
    assert all(float(job.fields["total_time"]) > float(part.fields["total_time"]) for part in parts if part)


async def test_one_bad_image_fails_alone(consumer: Consumer) -> None:
    job = await run(consumer, zipped({"good.tif": tiff(cells(96, 96)[0]), "bad=&.tif": b"this is no image"}))
    assert list(await consumer.result(job)) == ["good_batch_0_feature_0.tif"]
    assert list(parse_qs(job.fields["failures"])) == ["bad=&.tif"]


async def test_a_damaged_member_is_left_out_and_told(consumer: Consumer) -> None:
    image = tiff(cells(96, 96)[0])
    content = bytearray(zipped({"first.tif": image, "second.tif": image}))
    content[content.index(b"second.tif") + len("second.tif") + 500] ^= 0xFF  # its checksum no longer fits
    job = await run(consumer, bytes(content))
    assert list(await consumer.result(job)) == ["first_batch_0_feature_0.tif"]
    assert [name for name, _reason in json.loads(job.fields["skipped"])] == ["second.tif"]


async def test_an_archive_whose_images_all_fail_is_failed(consumer: Consumer) -> None:
    job = await run(consumer, zipped({"1.tif": b"no", "2.tif": b"neither"}))
    assert job.status == "failed"
    assert job.fields["reason"].startswith("None of the 2 images could be analysed.")
    assert set(parse_qs(job.fields["failures"])) == {"1.tif", "2.tif"}


@pytest.mark.parametrize("content", [zipped({}), zipped({"readme.md": b"hello"})])
async def test_an_archive_without_an_image_fails_with_a_sentence(consumer: Consumer, content: bytes) -> None:
    job = await run(consumer, content)
    assert job.status == "failed"
    assert job.fields["reason"].startswith("The archive holds no image")


def test_results_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    results = []
    for number, member in enumerate(("x/cell.tif", "x/cell.png")):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(zipped({"cell_batch_0_feature_0.tif": member.encode()}))
        results.append((member, path))
    merge(tmp_path / "out.zip", results)
    with zipfile.ZipFile(tmp_path / "out.zip") as out:
        assert {name: out.read(name).decode() for name in out.namelist()} == {
            "x/cell_batch_0_feature_0.tif": "x/cell.tif",
            "x/cell.png/cell_batch_0_feature_0.tif": "x/cell.png",
        }
