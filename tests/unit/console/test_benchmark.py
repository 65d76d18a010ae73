"""The benchmark against a small stand-in of the API, its document, and its report."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.console import commands
from services.console.benchmark import plan as plans
from services.console.benchmark.document import distribution, document, name_of, number
from services.console.benchmark.drive import drive
from services.console.benchmark.plan import Plan
from services.console.benchmark.results import read, spread
from services.console.cost.nodes import Bill
from shared.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[3]
TIMES = {"bytes_in": "7", "prediction_time": "0.5", "download_time": "0.25", "upload_time": "0.125"}


class Service:
    """The routes that a benchmark uses. A job ends when it has been asked about twice."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.asked: dict[str, int] = {}
        self.busy = 0
        self.fails: set[int] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/api/upload", self.upload),
                web.post("/api/predict", self.predict),
                web.post("/api/redis", self.redis),
            ]
        )
        return app

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        return web.json_response({"imageURL": "http://x", "uploadedName": f"uploads/{form['file'].filename}"})

    async def predict(self, request: web.Request) -> web.Response:
        if self.busy:
            self.busy -= 1
            return web.json_response({"message": "Later."}, status=503, headers={"Retry-After": "0"})
        body = await request.json()
        if body["jobType"] == "baking":
            return web.json_response({"message": "There is no job type 'baking'."}, status=400)
        self.bodies.append(body)
        return web.json_response({"hash": f"segmentation:{len(self.bodies):032x}"})

    async def redis(self, request: web.Request) -> web.Response:
        body = await request.json()
        job = body["hash"]
        self.asked[job] = self.asked.get(job, 0) + 1
        index = int(job.partition(":")[2], 16)
        fields = {"status": "predicting"}
        if self.asked[job] > 1:
            failed = index in self.fails
            fields = {"status": "failed" if failed else "done", "attempt": "1", "total_jobs": "1", "total_time": "1.5"}
            fields |= {"reason": "It is not an image."} if failed else TIMES
            fields |= {"output_url": "http://x/r.zip", "created_at": "2026-01-01T00:00:00+00:00"}
        return web.json_response({"value": [fields.get(name) for name in body["key"]]})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    server = TestServer(service.app())
    await server.start_server()
    yield str(server.make_url("/"))
    await server.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    path.write_bytes(b"II*\0")
    return path


async def test_every_job_is_submitted_and_followed_to_its_end(service: Service, url: str, image: Path) -> None:
    service.busy, service.fails = 2, {3}
    seen: list[tuple[int, int, int]] = []
    plan = Plan((str(image),), True, "segmentation", "Nuclear:4", count=50)
    run = await drive(plan, url, lambda *numbers: seen.append(numbers))
    assert [job["status"] for job in run.jobs].count("done") == 49
    assert seen[-1] == (50, 50, 1)
    assert service.bodies[0] == {
        "jobType": "segmentation",
        "imageName": "cells.tif",
        "uploadedName": "uploads/cells.tif",
        "modelName": "Nuclear",
        "modelVersion": "4",
    }
    made = document(plan, run, Bill(1.0, 2.0, 0.5), "2019-06")
    assert (made["cpu_node_cost"], made["gpu_node_cost"]) == ("1.000000", "2.000000")
    assert made["total_node_and_networking_costs"] == "3.500000"
    assert made["statuses"] == {"done": 49, "failed": 1, "canceled": 0}
    assert made["gpu_seconds"] == pytest.approx(49 * 0.5)
    assert made["job_data"][0]["prediction_time"] == 0.5
    assert made["job_data"][0]["model"] == "Nuclear:4"
    assert made["job_data"][2]["reason"] == "It is not an image."
    assert made["num_jobs"] == len(made["job_data"]) == 50
    assert made["bytes"] == {"uploaded": 4, "downloaded": 0, "read": 49 * 7.0, "written": 0}


async def test_a_refusal_ends_the_benchmark_with_the_services_sentence(url: str, image: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await drive(Plan((str(image),), True, "baking"), url, lambda *_: None)
    assert "There is no job type 'baking'." in str(caught.value.exceptions[0])


def test_costs_are_empty_texts_where_nobody_can_tell() -> None:
    from services.console.benchmark.drive import Run

    made = document(Plan(("x",), False, "segmentation"), Run(), None)
    assert [made[k] for k in ("cpu_node_cost", "gpu_node_cost", "total_node_and_networking_costs")] == ["", "", ""]


def test_names_and_numbers_have_the_contracts_forms() -> None:
    plan = Plan(("x",), False, "segmentation", count=100, start_delay=0.05, gpus=4)
    assert re.fullmatch(r"4gpu_100jobs_0\.05delay_[0-9a-f]{32}\.json", name_of(plan))
    assert re.fullmatch(r"1jobs_0delay_[0-9a-f]{32}\.json", name_of(Plan(("x",), False, "segmentation")))
    assert number("0.5") == 0.5
    assert number("0.5,1.5") == [0.5, 1.5]
    assert number("") is None
    assert number(None) is None
    assert distribution([1.0, 2.0, 3.0, 10.0]) == {"mean": 4.0, "p50": 2.5, "p95": 10.0, "max": 10.0}


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        ([], {}, "Name a file"),
        (["/no/such.tif"], {}, "There is no file '/no/such.tif'."),
        ([], {"FILE": "a.tif", "COUNT": "many"}, "COUNT is 'many'"),
        (["--count", "0"], {"FILE": "a.tif"}, "The number of jobs is 0"),
        (["--start-delay", "-1"], {"FILE": "a.tif"}, "must not be negative"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(
    words: list[str], environment: dict[str, str], sentence: str
) -> None:
    import argparse

    from services.console.benchmark import command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        plans.of(parser.parse_args(words), environment)


def test_the_environment_of_the_chart_describes_a_plan() -> None:
    import argparse

    from services.console.benchmark import command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    environment = {"MODEL": "NuclearSegmentation:1", "FILE": "cells.tif", "COUNT": "100"}
    plan = plans.of(parser.parse_args([]), environment)
    assert plan == Plan(("cells.tif",), False, "segmentation", "NuclearSegmentation:1", 100)


def test_a_machine_without_a_price_is_refused_before_the_run(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["benchmark", str(image), "--machine", "n1-standard-3"]) == 2
    assert "no price for the machine 'n1-standard-3'" in capsys.readouterr().err
    assert commands.main(["benchmark", str(image), "--machine", "n1-standard-4,abacus"]) == 2
    assert "no price for the gpu 'abacus'" in capsys.readouterr().err


def old_result(path: Path, gpus: int, images: int, seconds: float, cost: str = "1.25") -> Path:
    """A file as the old suite wrote it: archives with lists, times as texts."""
    job = {"input_file": "a.zip", "status": "done", "total_jobs": str(images), "prediction_time": "1.0,3.0"}
    job |= {"download_time": [0.5, 0.5], "upload_time": 0.25, "reason": None}
    raw = {"num_jobs": 1, "start_delay": 0.1, "time_elapsed": seconds, "job_data": [job]}
    raw |= {"cpu_node_cost": "0.25", "gpu_node_cost": "1.0", "total_node_and_networking_costs": cost}
    file = path / f"{gpus}gpu_1jobs_0.1delay_{seconds:g}.json"
    file.write_text(json.dumps(raw))
    return file


def test_a_report_reads_files_of_the_old_suite_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [old_result(tmp_path, 1, 100, s) for s in (90.0, 110.0)] + [old_result(tmp_path, 4, 1000, 250.0)]
    result = read(files[0])
    assert (result.gpus, result.images, result.cost, result.stages["prediction"]) == (1, 100, 1.25, 2.0)
    assert commands.main(["benchmark", "report", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    told = capsys.readouterr().out
    assert "100.0 ± 14.1" in told
    assert "12500.00" in told  # 1.25 for 100 images, in millions
    drawn = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert drawn == sorted(f"{n}.{e}" for n in ("cost", "stages", "throughput", "time") for e in ("png", "svg"))
    assert all((tmp_path / "report" / name).stat().st_size > 2000 for name in drawn)
    assert spread([5.0]) == (5.0, 0.0)


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert commands.main(["benchmark", "report", str(tmp_path / "x.json")]) == 2
    assert "x.json is not the result of a benchmark: it lacks the field 'job_data'" in capsys.readouterr().err
    assert commands.main(["benchmark", "report", str(tmp_path)]) == 2
    assert "holds no result of a benchmark" in capsys.readouterr().err


async def test_a_deployments_pod_runs_once_and_then_waits_silently(service: Service, url: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MODEL": "NuclearSegmentation:1",
        "FILE": "cells.tif",
        "COUNT": "3",
        "KIOSK_URL": url,
        "KIOSK_NAME": "benchmark-0",
        "KIOSK_STORAGE__URL": (tmp_path / "bucket").as_uri(),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }

    async def pod(last: str) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.console", "benchmark", "--stay"),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(60):
            while not (lines and re.search(last, lines[-1])):
                lines.append((await process.stdout.readline()).decode())
                assert lines[-1], lines
            process.terminate()
            lines += (await process.stdout.read()).decode().splitlines()
            assert await process.wait() == 0
        return lines

    lines = await pod(r"^Uploaded ")
    assert re.fullmatch(
        r"Uploaded 3jobs_0delay_[0-9a-f]{32}\.json to file:///\S+/bucket in \d+\.\d{3} seconds\.\n", lines[-1]
    )
    assert service.bodies[0]["uploadedName"] == "uploads/cells.tif"
    made = json.loads(next((tmp_path / "bucket" / "benchmarks").glob("3jobs_*.json")).read_text())
    assert made["num_jobs"] == 3
    again = await pod("has been done")
    assert len(again) == 1
    assert len(service.bodies) == 3
