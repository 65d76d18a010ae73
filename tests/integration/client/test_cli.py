"""The ``kiosk`` command as people type it: in a process of its own, against a real frontend."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile

from tests.fixtures.frontend import Served
from tests.integration.client import forked
from tests.integration.client.conftest import LABELS

ROOT = Path(__file__).parents[3]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


async def start(*words: str, url: str = "", **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "cellkiosk.cli", *words,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KIOSK_URL": url, "COLUMNS": "100", **environment},
    )  # fmt: skip


async def kiosk(*words: str, url: str = "", **environment: str) -> Ran:
    given = {**os.environ, "KIOSK_URL": url, "COLUMNS": "100", **environment}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = await asyncio.to_thread(forked.run, words, given, folder)
        ran = Ran(code, (folder / "out").read_text(), (folder / "err").read_text())
    assert "Traceback" not in ran.err, ran.err
    return ran


async def test_submit_and_fetch(working: Served, image: Path, tmp_path: Path) -> None:
    ran = await kiosk("submit", str(image), "--type", "segmentation", "--out", str(tmp_path / "out"), url=working.url)
    assert (ran.code, ran.out) == (0, f"{tmp_path}/out/cells.zip\n"), ran.err
    assert "cells.tif: done" in ran.err
    with zipfile.ZipFile(tmp_path / "out/cells.zip") as archive:
        assert archive.namelist() == ["cells_batch_0_feature_0.tif"]
    again = await kiosk("submit", str(image), "--out", str(tmp_path / "out"), "--unpack", "--quiet", url=working.url)
    assert (again.code, again.err) == (0, "")
    assert np.array_equal(tifffile.imread(tmp_path / "out/cells/cells_batch_0_feature_0.tif"), LABELS)


async def test_folders_patterns_and_files_of_one_name(working: Served, image: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "cells.TIF").write_bytes(image.read_bytes())
    (tmp_path / "in/notes.txt").write_text("no image")
    out = tmp_path / "out"
    ran = await kiosk(
        "submit", str(tmp_path / "in"), str(tmp_path / "*.tif"), "--out", str(out), "--json", url=working.url
    )
    assert ran.code == 0
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert {one["status"] for one in told} == {"done"}
    assert sorted(path.name for path in out.iterdir()) == ["cells-2.zip", "cells-3.zip", "cells.zip"]
    assert len({one["result"] for one in told}) == 3


async def test_one_bad_file_among_good_ones(working: Served, image: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image at all")
    ran = await kiosk("submit", str(image), str(tmp_path / "text.png"), "--wait", url=working.url)
    assert ran.code == 2
    assert ran.out.startswith("segmentation:")
    assert "text.png: The file 'text.png' is text. Allowed are TIFF" in ran.err


async def test_what_happens_after_submitting(served: Served, image: Path, tmp_path: Path) -> None:
    submitted = await kiosk(
        "submit", str(image), "--option", "scale=2", "--option", "dimension_order=YX", url=served.url
    )
    job_id = submitted.out.strip()
    assert submitted.code == 0
    assert json.loads((await served.store.get(job_id)).fields["options"])["scale"] == 2  # type: ignore[union-attr]
    listed = await kiosk("ls", url=served.url)
    assert f"{job_id} " in listed.out
    assert " new " in listed.out
    raw = await kiosk("ls", "--json", "--status", "done", url=served.url)
    assert (raw.code, raw.out) == (0, "")
    early = await kiosk("get", job_id, url=served.url)
    assert (early.code, early.err) == (2, f"kiosk: {job_id}: The job has not ended yet.\n")
    canceled = await kiosk("cancel", job_id, url=served.url)
    assert canceled.out == f"{job_id}: canceled\n"
    watched = await kiosk("watch", job_id, "--json", url=served.url)
    assert watched.code == 1
    assert json.loads(watched.out.splitlines()[-1])["status"] == "canceled"
    fetched = await kiosk("get", job_id, "--out", str(tmp_path / "out"), url=served.url)
    assert fetched.code == 1
    assert job_id in fetched.err
    again = await kiosk("cancel", job_id, "segmentation:" + "0" * 32, "--json", url=served.url)
    assert [json.loads(line) for line in again.out.splitlines()] == [
        {"id": job_id, "canceled": False},
        {"id": "segmentation:" + "0" * 32, "error": "There is no such job. It may have expired."},
    ]
    assert again.code == 2


async def test_watch_until_done_then_get(working: Served, image: Path, tmp_path: Path) -> None:
    job_id = (await kiosk("submit", str(image), url=working.url)).out.strip()
    watched = await kiosk("watch", job_id, url=working.url)
    assert (watched.code, watched.err.splitlines()[-1]) == (0, f"{job_id}: done")
    fetched = await kiosk("get", job_id, "--out", str(tmp_path / "o"), "--json", url=working.url)
    assert json.loads(fetched.out) == {"id": job_id, "result": str(tmp_path / "o/cells.zip")}


async def test_one_job_without_a_result_among_good_ones(working: Served, image: Path, tmp_path: Path) -> None:
    good = [(await kiosk("submit", str(image), "--wait", url=working.url)).out.strip() for _ in range(2)]
    ran = await kiosk("get", good[0], "mesmer:" + "0" * 32, good[1], "--out", str(tmp_path / "o"), url=working.url)
    assert ran.code == 2
    assert ran.out.split() == [f"{tmp_path}/o/cells.zip", f"{tmp_path}/o/cells-2.zip"]
    assert f"kiosk: mesmer:{'0' * 32}: There is no such job" in ran.err


async def test_an_interrupted_download_goes_on(working: Served, image: Path, tmp_path: Path) -> None:
    job_id = (await kiosk("submit", str(image), "--wait", url=working.url)).out.strip()
    job = await working.store.get(job_id)
    assert job is not None
    large = random.Random(1).randbytes(30_000_000)
    await working.front.storage.put(job.fields["output_file_name"], large)
    out = tmp_path / "o"
    process = await start("get", job_id, "--out", str(out), url=working.url)
    while not any(path.stat().st_size for path in out.glob(".*")):
        await asyncio.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    if process.returncode == 0:
        pytest.skip("it was quicker than the interrupt")
    assert process.returncode == 130
    assert b"the same call goes on where it stopped" in err
    (left,) = out.iterdir()
    with left.open("r+b") as file:  # marked, to see that it is not sent again
        file.write(b"HERE")
    fetched = await kiosk("get", job_id, "--out", str(out), url=working.url)
    assert fetched.code == 0, fetched
    assert (out / "cells.zip").read_bytes() == b"HERE" + large[4:]
    assert [path.name for path in out.iterdir()] == ["cells.zip"]


async def test_models(working: Served) -> None:
    ran = await kiosk("models", url=working.url)
    assert ran.code == 0
    assert "NuclearSegmentation" in ran.out
    assert "--option scale=…" in ran.out
    assert "mesmer, multiplex" in ran.out
    assert json.loads((await kiosk("models", "--json", url=working.url)).out)["models"]["MultiplexSegmentation"] == [
        "9"
    ]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["submit", "none.tif"], 2, "There is no file none.tif."),
        (["submit", "IMAGE", "--type", "nonsense"], 2, "nonsense"),
        (["submit", "IMAGE", "--option", "scale"], 2, "must be NAME=VALUE"),
        (["submit", "IMAGE", "--type", "segmentation", "--option", "colour=1"], 2, "has no option colour; its options"),
        (["submit", "IMAGE", "--parallel", "0"], 2, "is no whole number from 1 on"),
        (["ls", "--limit", "-1"], 2, "is no whole number from 1 on"),
        (["submit", "IMAGE", "--options-file", "IMAGE"], 2, "is not JSON"),
        (["submit", "IMAGE", "--type", "segmentation", "--option", "scale=1000"], 2, "scale"),
        (["submit", "IMAGE", "--out", "/proc/none"], 2, "cannot be made"),
        (["watch", "segmentation:0"], 2, "no such job"),
        (["get", "segmentation:" + "0" * 32], 2, "no such job"),
        (["cancel", "../../etc"], 2, ""),
        (["models", "--url", "http://127.0.0.1:1", "--patience", "0.1"], 3, "does not answer: connection refused"),
        (["models", "--patience", "nan"], 2, "is no number of seconds"),
        (["models", "--url", "here"], 2, "must begin with http:// or https://"),
        (["models", "--key-file", "/none"], 2, "cannot be read"),
        (["nonsense"], 2, "invalid choice"),
        ([], 2, "required: command"),
    ],
)
async def test_a_wrong_call_gets_a_sentence_and_its_code(
    served: Served, image: Path, words: list[str], code: int, sentence: str
) -> None:
    ran = await kiosk(*(str(image) if word == "IMAGE" else word for word in words), url=served.url)
    assert ran.code == code, ran
    assert sentence in ran.err
    assert ran.out == ""


async def test_no_key_is_not_allowed(serve: object, image: Path) -> None:
    locked = await serve(auth={"anonymous": "off"})  # type: ignore[operator]
    ran = await kiosk("submit", str(image), url=locked.url)
    assert (ran.code, "API key" in ran.err) == (4, True)
    wrong = await kiosk("ls", url=locked.url, KIOSK_API_KEY="nonsense")
    assert wrong.code == 4


async def test_an_interrupt_leaves_the_job(served: Served, image: Path) -> None:
    process = await start("submit", str(image), "--wait", url=served.url)
    assert process.stderr is not None
    while b"submitted" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"submitted jobs go on" in err
    assert b"Traceback" not in err
    assert len([row async for row in _jobs(served)]) == 1


async def _jobs(served: Served):  # type: ignore[no-untyped-def]
    _, listed = await served.get("/api/v1/jobs")
    for job in listed["jobs"]:
        yield job


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion(shell: str) -> None:
    ran = await kiosk("completion", shell)
    assert ran.code == 0
    assert "submit" in ran.out
    assert "out" in ran.out
    if shell == "bash":
        typed = f"{ran.out}\nCOMP_WORDS=(kiosk submit --o); COMP_CWORD=2; _kiosk; echo ${{COMPREPLY[@]}}"
        command = ["bash", "-c", typed]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["--option", "--options-file", "--out"]
