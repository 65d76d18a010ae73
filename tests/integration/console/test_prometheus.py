"""The cost of a cluster from a real Prometheus that holds recorded metrics of its nodes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.console.cost.nodes import read_bill
from services.console.up import ports, probes
from shared.costs.prices import load

BEGIN = 1_700_000_000
HOUR = 3600

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="Prometheus is not installed"
)


def recorded(minutes: int = 150) -> str:
    """Two and a half hours of one CPU node, and of one with two GPUs that came after half an hour and left again."""
    cpu = 'node="cpu-1",label_beta_kubernetes_io_instance_type="n1-standard-4"'
    gpu = (
        'node="gpu-1",label_node_kubernetes_io_instance_type="n1-highmem-8",'
        'label_cloud_google_com_gke_accelerator="nvidia-tesla-v100",label_cloud_google_com_gke_spot="true"'
    )
    times = range(BEGIN, BEGIN + minutes * 60 + 1, 15)
    stay = [t for t in times if BEGIN + 1800 <= t <= BEGIN + 5400]
    groups = {
        "kube_node_labels": [(cpu, "1", t) for t in times] + [(gpu, "1", t) for t in stay],
        "kube_node_info": [('node="cpu-1"', "1", t) for t in times] + [('node="gpu-1"', "1", t) for t in stay],
        "kube_node_created": [('node="cpu-1"', str(BEGIN - 9 * HOUR), t) for t in times]
        + [('node="gpu-1"', str(BEGIN + 1800), t) for t in stay],
        "kube_node_status_capacity": [('node="gpu-1",resource="nvidia_com_gpu"', "2", t) for t in stay],
    }
    lines = []
    for name, samples in groups.items():
        lines.append(f"# TYPE {name} gauge")
        lines += [f"{name}{{{labels}}} {value} {time}" for labels, value, time in samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    metrics, data, settings = tmp_path / "metrics.txt", tmp_path / "data", tmp_path / "prometheus.yml"
    metrics.write_text(recorded())
    settings.write_text("global: {}\n")
    words = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(metrics), str(data)]
    made = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    port = ports.take(0)
    words = ["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={data}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y", "--log.level=error"]
    process = await asyncio.create_subprocess_exec(*words)
    async with asyncio.timeout(30):
        while (await probes.get("127.0.0.1", port, "/-/ready"))[0] != 200:
            assert process.returncode is None
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    await process.wait()


async def test_the_bill_equals_the_sum_worked_out_by_hand(prometheus: str) -> None:
    made = await read_bill(prometheus, BEGIN, BEGIN + 2 * HOUR, load())
    assert made.cpu_nodes == pytest.approx(2 * 0.19, rel=0.001)
    one_hour = 0.1000 + 2 * 0.74
    assert made.gpu_nodes == pytest.approx(one_hour, rel=0.003)  # it left between two looks
    assert made.network == 0
