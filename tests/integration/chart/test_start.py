"""What the chart says of each container starts the real service from this repository and passes its probes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.triton import environment
from tests.fixtures.helm import CHART, ROOT, of_kind, pod_specs, rendered
from tests.fixtures.redis import RedisServer, server_binary
from tests.integration.chart.container import Container

PASSWORD = "letters4and4digits"
NAME = "kiosk-cellkiosk"


def manifest(service: str) -> dict[str, Any]:
    spec = next(spec for name, spec in pod_specs(rendered("kind")).items() if f"/{NAME}-{service}" in name)
    container: dict[str, Any] = spec["containers"][0]
    return container


@pytest.fixture
def chart_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Redis with the chart's own configuration and a password."""
    config = next(
        each for each in of_kind(rendered("kind"), "ConfigMap") if each["metadata"]["name"] == f"{NAME}-redis"
    )
    file = tmp_path / "redis.conf"
    file.write_text(config["data"]["redis.conf"].replace("dir /data", f"dir {tmp_path}"))
    server = _Configured(tmp_path / "redis", str(file)).start()
    assert server.process is not None
    assert PASSWORD not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    yield server
    server.stop(kill=True)


class _Configured(RedisServer):
    """A server started by the chart's own script, as in the pod; it answers NOAUTH until asked with the password."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder)
        self._config = config

    def _command(self) -> list[str]:
        container = manifest("redis")
        assert container["command"] == ["/config/server.sh"]
        place = {"PORT": str(self.port), "CONFIG": self._config, "STATE": str(self.folder), "REDISCLI_AUTH": PASSWORD}
        assert place.keys() == {each["name"] for each in container["env"]} - {"POD", "SELF"}
        (self.folder / "valkey-server").symlink_to(server_binary())
        words = [f"{name}={value}" for name, value in {**place, "PATH": f"{self.folder}:/usr/bin:/bin"}.items()]
        return ["env", "-i", *words, "sh", str(CHART / "files" / "redis" / "server.sh")]

    def _answers(self) -> bool:
        import socket

        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"-NOAUTH")
        except OSError:
            return False


@pytest.fixture
def places(tmp_path: Path, chart_redis: RedisServer) -> dict[str, str]:
    """What stands for the cluster's names and volumes."""
    (tmp_path / "storage").mkdir()
    return {
        "password": PASSWORD,
        f"{NAME}-redis.lab.svc:6379": f"127.0.0.1:{chart_redis.port}",
        "file:///data": f"file://{tmp_path / 'storage'}",
        "/scratch": str(tmp_path / "scratch"),
        "/app/": f"{ROOT}/",
    }


@contextlib.asynccontextmanager
async def running(*containers: Container) -> AsyncIterator[None]:
    """Start containers, and stop them whatever happens."""
    try:
        for each in containers:
            each.start()
        yield
    finally:
        for each in containers:
            if each.process is not None and each.process.poll() is None:
                await each.stop()


@pytest.mark.parametrize("service", ["frontend", "janitor"])
async def test_service_starts_passes_its_probes_and_stops(service: str, places: dict[str, str], tmp_path: Path) -> None:
    container = Container(manifest(service), tmp_path, places)
    async with running(container):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            await container.until(probe)
        assert await container.stop() == 0, container.said()


async def test_readiness_fails_when_redis_goes_and_liveness_does_not(
    places: dict[str, str], tmp_path: Path, chart_redis: RedisServer
) -> None:
    """A pod must not be restarted for what is wrong elsewhere."""
    container = Container(manifest("frontend"), tmp_path, places)
    async with running(container):
        await container.until("readinessProbe")
        chart_redis.stop(kill=True)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(container.passes, "readinessProbe"):
                await asyncio.sleep(0)
        assert container.passes("livenessProbe")


async def test_autoscaler_lives_without_a_cluster_and_is_not_ready(places: dict[str, str], tmp_path: Path) -> None:
    """With a cluster it is tested in test_install.py; here the API server cannot be reached."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nusers: [{name: x, user: {token: x}}]\n"
        "contexts: [{name: x, context: {cluster: x, user: x, namespace: lab}}]\n"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:9'}}]\n"
    )
    container = Container(manifest("autoscaler"), tmp_path, places, {"KIOSK_KUBERNETES__KUBECONFIG": str(kubeconfig)})
    async with running(container):
        await container.until("startupProbe")
        assert container.passes("livenessProbe")
        assert not container.passes("readinessProbe")
        assert await container.stop() == 0, container.said()


@pytest.mark.timeout(180)
async def test_image_to_labels_through_the_charts_own_containers(
    places: dict[str, str], tmp_path: Path, triton_environment: environment.Environment
) -> None:
    """Frontend, consumer, Triton and janitor by their manifests; then what `helm test` runs in the cluster."""
    triton = Container(manifest("triton"), tmp_path, places, {"KIOSK_TRITON_VENV": str(triton_environment.folder)})
    places |= {f"{NAME}-triton.lab.svc:8001": f"127.0.0.1:{triton.ports[8001]}"}
    frontend = Container(manifest("frontend"), tmp_path, places)
    parts = [triton, frontend, Container(manifest("consumer-all"), tmp_path, places)]
    parts.append(Container(manifest("janitor"), tmp_path, places))
    async with running(*parts):
        for part in parts:
            await part.until("startupProbe", 120)
        for part in parts:
            await part.until("readinessProbe", 120)
            assert part.passes("livenessProbe"), part.manifest["name"]
        test = next(each for each in of_kind(rendered("kind"), "Pod") if each["metadata"]["name"] == f"{NAME}-test")
        words = test["spec"]["containers"][0]["args"]
        assert words[1] == f"http://{NAME}-frontend.lab.svc:80"
        words = [str(CHART / "files" / "label.py"), f"http://127.0.0.1:{frontend.ports[8080]}", "60"]
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "done" in done.stdout
        assert "test_batch_0_feature_0.tif" in done.stdout
        for part in reversed(parts):
            assert await part.stop() == 0, part.said()
