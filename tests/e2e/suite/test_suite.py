"""The main job on one machine with all its real parts: an image in, its cells out, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from services.console.up import ports
from services.triton import environment
from tests.fixtures.docs import DOCS, PAGES, blocks
from tests.fixtures.suite import ROOT, Suite, left, running_suite

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def nuclei(side: int, count: int) -> tuple[bytes, int]:
    """A generated image of round nuclei on a grid, as TIFF, and how many there are."""
    random = np.random.default_rng(3)
    step = side // count
    y, x = np.mgrid[:step, :step] - (step - 1) / 2
    nucleus = 3000 * np.clip(1.2 - (y**2 + x**2) / 9.0**2, 0, 1)
    image = 400 + np.tile(nucleus, (count, count)) + random.normal(0, 60, (side, side))
    file = io.BytesIO()
    tifffile.imwrite(file, image.clip(0, 65535).astype(np.uint16))
    return file.getvalue(), count * count


def kiosk(suite: Suite, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "KIOSK_DATA": str(suite.data), "KIOSK_PYTHON": sys.executable, "COLUMNS": "200"}
    return subprocess.run(
        [str(ROOT / "kiosk"), *words], env=variables, capture_output=True, text=True, check=False, timeout=60
    )


async def test_an_image_goes_in_and_its_cells_come_out_whatever_dies_meanwhile(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = str(ports.take(0))
    image, count = nuclei(512, 8)
    more = _job_type_of_the_tutorial(tmp_path / "packages")
    async with running_suite(data, "--port", port, environment=more) as suite:
        assert suite.url == f"http://127.0.0.1:{port}"
        await _gives_cells(suite, image, count)
        _status_tells_of_it(suite)
        await asyncio.to_thread(_does_what_the_documentation_says, suite, tmp_path / "docs", image)
        await _survives_the_death_of_its_worker(suite)
        await _refuses_a_second_supervisor(suite)
        pids = suite.pids()
        assert len(pids) >= 6
        late = await suite.submit("late.tif", image)
        assert await suite.stop() == 0, "\n".join(suite.said)
        assert left(pids) == {}
    async with running_suite(data, "--port", port) as again:
        assert again.running.ports == suite.running.ports
        assert (await again.until(late)).status == "done"
        assert await again.stop(signal.SIGINT) == 0
        assert any("has stopped" in line for line in again.said)


async def _gives_cells(suite: Suite, image: bytes, count: int) -> None:
    job = await suite.until(await suite.submit("cells.tif", image))
    assert job.status == "done", job.fields
    with zipfile.ZipFile(io.BytesIO(await suite.fetch(job.fields["output_url"]))) as result:
        names = result.namelist()
        labels = tifffile.imread(io.BytesIO(result.read(names[0])))
    assert names[0] == "cells_batch_0_feature_0.tif"
    assert np.squeeze(labels).shape == (512, 512)
    assert set(np.unique(labels)) == set(range(int(labels.max()) + 1))
    assert count * 0.9 <= labels.max() <= count * 1.1


def _status_tells_of_it(suite: Suite) -> None:
    told = kiosk(suite, "status")
    assert told.returncode == 0, told.stderr
    for word in (suite.url, "segmentation", "redis", "frontend", "consumer"):
        assert word in told.stdout
    assert ("triton" in told.stdout) == environment.is_ready()  # elsewhere the models run in the workers


def _does_what_the_documentation_says(suite: Suite, folder: Path, image: bytes) -> None:
    """Run each block that a page marks with ``run`` or ``python``, as somebody would who follows it."""
    folder.mkdir()
    for part in ROOT.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "cells.tif").write_bytes(image)
    programs = os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {**os.environ, "KIOSK_DATA": str(suite.data), "KIOSK_PYTHON": sys.executable, "COLUMNS": "200"}
    variables |= {"PATH": programs, "PYTHONPATH": str(folder)}
    chosen = [block for page in PAGES for block in blocks(page) if block.mark in ("run", "python")]
    assert len(chosen) > 15
    for block in chosen:
        if any(program in block.text and not shutil.which(program) for program in ("curl", "jq")):
            continue
        text = block.text.replace("http://127.0.0.1:8080", suite.url)
        command = ["sh", "-exc", text] if block.mark == "run" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"
    with zipfile.ZipFile(folder / "results" / "cells.zip") as result:
        assert result.namelist() == ["cells_batch_0_feature_0.tif"]
    made = json.loads(next((folder / "bench").glob("3jobs_0delay_*.json")).read_text())
    assert [job["status"] for job in made["job_data"]] == ["done"] * 3
    assert (folder / "report" / "throughput.png").stat().st_size
    found = [zipfile.ZipFile(path).namelist() for path in (folder / "results").glob("cells*.zip")]
    assert ["cells.csv"] in found, "the tutorial's job type was run"


def _job_type_of_the_tutorial(folder: Path) -> dict[str, str]:
    """Install the job type that docs/custom-job.md shows, as a package beside the consumer; return the environment."""
    code = next(block.text for block in blocks(DOCS / "custom-job.md") if block.mark == "pipeline")
    about = folder / "brightness-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "brightness.py").write_text(code)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cellkiosk.pipelines]\nbrightness = brightness:Brightness\n")
    return {"PYTHONPATH": str(folder)}


async def _survives_the_death_of_its_worker(suite: Suite) -> None:
    large, _count = nuclei(1024, 16)
    job_id = await suite.submit("large.tif", large)
    await suite.until(job_id, "pre-processing", "predicting", "post-processing")
    for pid, command in left(suite.pids()).items():
        if "services.consumer" in command and "services.autoscaler" not in command:
            os.kill(pid, signal.SIGKILL)
    job = await suite.until(job_id)
    assert job.status == "done", job.fields
    assert job.attempt > 1
    assert int(job.fields["losses"]) == job.attempt - 1


async def _refuses_a_second_supervisor(suite: Suite) -> None:
    second = kiosk(suite, "up")
    assert second.returncode == 2
    assert f"runs already at {suite.url}" in second.stderr


async def test_a_wrong_model_setting_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    taken = ports.take(0)
    variables = {**os.environ, "KIOSK_DATA": str(tmp_path / "data"), "KIOSK_PYTHON": sys.executable}
    done = await asyncio.to_thread(
        subprocess.run,
        [str(ROOT / "kiosk"), "up", "--port", str(taken), "--models", "process"],
        env=variables | {"KIOSK_UPLOADS__MAX_BYTES": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1
    assert "frontend cannot be started: it ended with exit code 2" in done.stdout
    assert "KIOSK_UPLOADS__MAX_BYTES" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
