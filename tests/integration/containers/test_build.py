"""The images are built by their Dockerfiles, and their containers do their work, as the user they name, on a root that
cannot be written. ``KIOSK_TEST_LONG=1`` builds all six instead of the smallest.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.helm import CHART, ROOT
from tests.fixtures.redis import RedisServer, free_port
from tests.integration.containers.images import USER, Image, Running, built, missing, until

LONG = bool(os.environ.get("KIOSK_TEST_LONG"))
pytestmark = [
    pytest.mark.timeout(1800 if LONG else 300),
    pytest.mark.xdist_group("images"),
]
long = pytest.mark.skipif(not LONG, reason="minutes: set KIOSK_TEST_LONG=1")
#: Megabytes unpacked beyond the base, at most.
LARGEST = {"frontend": 120, "janitor": 100, "autoscaler": 100}
WORKERS = [{"name": "worker", "min_replicas": 1, "max_replicas": 1}]


@pytest.fixture(autouse=True, scope="module")
def _possible() -> None:
    if reason := missing():
        pytest.skip(reason)


@contextlib.contextmanager
def running(
    image: Image, folder: Path, redis: str, extra: dict[str, str] | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a container with a volume of its own; wait until its HEALTHCHECK passes; it must stop when told to."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    os.chown(data, USER, USER)
    port = free_port()
    environment = {
        "KIOSK_REDIS__URL": redis,
        "KIOSK_STORAGE__URL": "file:///data",
        "KIOSK_HEALTH__PORT": str(port),
    }
    volumes = {data: "/data", ROOT / "services" / "triton" / "models": "/models"}
    log = folder / f"{image.service}.log"
    with image.mounted() as root:
        container = Running(image, root, environment | (extra or {}), volumes)
        process = container.start(log)
        try:
            until(container.healthy, process, log)
            yield port, process
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait(10)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def runs_as_told(process: subprocess.Popen[bytes]) -> None:
    """The user of the image, no rights, and Python itself rather than a shell that would keep signals."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert set(re.findall(r"^[UG]id:\s(.+)$", status, re.MULTILINE)) == {"\t".join([str(USER)] * 4)}
    assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"python\0-m\0services.")


def holds_its_own_extra_only(image: Image) -> None:
    """What is installed is what is locked; the bill of materials says the same."""
    with image.mounted() as root:
        found = importlib.metadata.distributions(path=[str(root / "packages")])
        installed = {_normal(each.metadata["Name"]): each.version for each in found}
        bill = json.loads((root / "usr/share/cellkiosk/sbom.cdx.json").read_text())
        assert {each["name"]: each["version"] for each in bill["components"]} == installed
        services = {path.name for path in (root / "app" / "services").iterdir() if path.is_dir()}
        assert services == {image.service} | ({"autoscaler"} if image.service == "console" else set())
        assert not (root / "wheels").exists(), "only the build stage sees what it was built from"
    lock = (ROOT / "requirements" / f"{image.service}.txt").read_text()
    locked = {(_normal(name), version) for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)}
    assert installed.items() <= locked
    assert len(installed) > 10


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_small(image: Image) -> None:
    size = image.megabytes()
    print(f"{image.service}: {size:.0f} MB beyond the base")
    assert size <= LARGEST.get(image.service, float("inf"))


def test_janitor(tmp_path: Path, redis_server: RedisServer) -> None:
    with built("janitor") as image:
        holds_its_own_extra_only(image)
        is_small(image)
        assert image.config["Labels"]["org.opencontainers.image.revision"] == "abc"
        with running(image, tmp_path, redis_server.url) as (port, process):
            runs_as_told(process)
            assert ready(port)


@long
def test_autoscaler(tmp_path: Path, redis_server: RedisServer) -> None:
    extra = {"KIOSK_SCALER": "local", "KIOSK_LOCAL__COMMAND": '["sleep", "600"]', "KIOSK_TARGETS": json.dumps(WORKERS)}
    with built("autoscaler") as image:
        holds_its_own_extra_only(image)
        is_small(image)
        with running(image, tmp_path, redis_server.url, extra) as (_, process):
            runs_as_told(process)


@long
def test_console(tmp_path: Path, own_redis: RedisServer) -> None:
    with built("console") as image, image.mounted() as root:
        holds_its_own_extra_only(image)
        is_small(image)
        container = Running(image, root, {"KIOSK_REDIS__URL": own_redis.url, "KIOSK_STORAGE__URL": "file:///tmp"})
        for words, said in (((), "simulate"), (("status",), "worker"), (("simulate", "--help"), "usage")):
            assert container.start(tmp_path / "log", *words).wait(60) == 0, (tmp_path / "log").read_text()
            assert said in (tmp_path / "log").read_text().lower()
        # What the chart's notes say to run in its pod.
        words = container.entered(["kiosk", "keys", "create", "first"])
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ck_"), done.stdout


@long
def test_image_to_labels_by_the_containers_alone(tmp_path: Path, own_redis: RedisServer) -> None:
    """Frontend, consumer and Triton from their images; then what `helm test` runs in the cluster."""
    http, grpc, model = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        images = {name: stack.enter_context(built(name)) for name in ("frontend", "consumer", "triton")}
        for name in ("frontend", "consumer"):
            holds_its_own_extra_only(images[name])
        for image in images.values():
            is_small(image)
        log = tmp_path / "triton.log"
        server = Running(images["triton"], stack.enter_context(images["triton"].mounted()), {})
        ports = [f"--http-port={model}", f"--grpc-port={grpc}", f"--metrics-port={free_port()}", "--host=127.0.0.1"]
        triton = server.start(log, "-m", "services.triton", *ports)
        stack.callback(triton.wait, 30)
        stack.callback(triton.terminate)
        extra = {"KIOSK_HOST": "127.0.0.1", "KIOSK_PORT": str(http), "KIOSK_AUTH__ANONYMOUS": "on"}
        _, frontend = stack.enter_context(running(images["frontend"], tmp_path, own_redis.url, extra))
        extra = {"KIOSK_MODEL_SERVER__URL": f"grpc://127.0.0.1:{grpc}", "KIOSK_SCRATCH": "/tmp/scratch"}
        port, consumer = stack.enter_context(running(images["consumer"], tmp_path, own_redis.url, extra))
        for process in (frontend, consumer):
            runs_as_told(process)
        until(lambda: ready(port), triton, log, 120)
        words = [sys.executable, str(CHART / "files" / "label.py"), f"http://127.0.0.1:{http}", "120"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
        assert "test_batch_0_feature_0.tif" in done.stdout
