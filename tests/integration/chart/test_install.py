"""The chart on a real API server: installed, upgraded, rolled back and removed, under a restricted pod policy.

The server is 1.20, which has PodSecurityPolicy where later ones have Pod Security admission. A fake kubelet walks the
pods; the autoscaler is our real one, with the rights that the chart gives it and nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.console import kubectl
from services.console.doctor.cluster import examine
from shared.jobs import JobStore, JobType, NewJob, open_store
from shared.jobs.model import new_id
from tests.fixtures.frontend import TIFF, Served
from tests.fixtures.helm import CHART, pod_specs, run_helm, template, tools
from tests.fixtures.kubernetes import ControlPlane, control_plane_scripts
from tests.fixtures.redis import RedisServer
from tests.integration.chart.container import Container

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("chart-install")]

NAME = "kiosk-cellkiosk"
KIND = str(CHART / "ci" / "kind-values.yaml")

#: What Pod Security "restricted" asks for, said as the old server understands it; and who may use it: everybody.
POLICY = """
apiVersion: policy/v1beta1
kind: PodSecurityPolicy
metadata:
  name: restricted
  annotations: {seccomp.security.alpha.kubernetes.io/allowedProfileNames: runtime/default}
spec:
  privileged: false
  allowPrivilegeEscalation: false
  requiredDropCapabilities: [ALL]
  readOnlyRootFilesystem: true
  volumes: [configMap, emptyDir, projected, secret, persistentVolumeClaim]
  runAsUser: {rule: MustRunAsNonRoot}
  runAsGroup: {rule: MustRunAs, ranges: [{min: 1, max: 65535}]}
  seLinux: {rule: RunAsAny}
  supplementalGroups: {rule: MustRunAs, ranges: [{min: 1, max: 65535}]}
  fsGroup: {rule: MustRunAs, ranges: [{min: 1, max: 65535}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: use-restricted}
rules: [{apiGroups: [policy], resources: [podsecuritypolicies], resourceNames: [restricted], verbs: [use]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: use-restricted}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: use-restricted}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts"}]
"""
VOLUMES = "---\n".join(
    f"apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: volume-{number}}}\n"
    "spec: {capacity: {storage: 20Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /nowhere}}\n"
    for number in range(20)  # a released one is not bound again
)


class Cluster:
    """A control plane whose namespaces hold one release each."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.env = {"KUBECONFIG": plane.kubeconfig}

    def kubectl(self, *words: str, given: str = "", check: bool = True) -> str:
        done = subprocess.run(
            [tools() / "kubectl", *words], input=given, capture_output=True, text=True, env={**os.environ, **self.env}
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def helm(self, *words: str) -> str:
        return run_helm(*words, env=self.env).stdout

    def get(self, namespace: str, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def left(self, namespace: str) -> set[str]:
        """All objects of a namespace but those that the cluster itself puts there and events."""
        kinds = self.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
        kinds = [each for each in kinds if not each.startswith(("events", "endpoints", "podtemplates"))]
        listed = self.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "name", "--ignore-not-found")
        return {each for each in listed.split() if "default" not in each and "kube-root-ca" not in each}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    scripts = control_plane_scripts()
    if scripts is None:
        pytest.skip("KIOSK_TEST_CONTROL_PLANE names no folder with a control plane")
    plane = ControlPlane(scripts, tmp_path_factory.mktemp("install"))
    plane.start(APISERVER_FLAGS="--enable-admission-plugins=PodSecurityPolicy")
    try:
        plane.nodes(1)
        made = Cluster(plane)
        made.kubectl("apply", "-f", "-", given=POLICY + "---\n" + VOLUMES)
        yield made
    finally:
        plane.stop()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"lab-{abs(hash(request.node.name)) % 10**6}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_install_upgrade_rollback_uninstall(cluster: Cluster, namespace: str) -> None:
    """Everything comes up under the restricted policy, changes are rolled out and back, and nothing is left."""
    words = (str(CHART), "--namespace", namespace, "--values", KIND, "--set", "storage.volume.keep=false")
    said = cluster.helm("install", "kiosk", *words, "--wait", "--timeout", "120s")
    assert f"port-forward service/{NAME}-frontend 8080:80" in said
    running = cluster.kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].status.phase}").split()
    assert len(running) == 9
    assert set(running) == {"Running"}
    password = cluster.get(namespace, "secret", f"{NAME}-redis")["data"]["password"]

    cluster.helm(
        "upgrade", "kiosk", *words, "--set", "settings.telemetry.log_level=debug", "--set", "janitor.replicas=2"
    )
    assert _level(cluster, namespace) == "debug"
    assert cluster.get(namespace, "deployment", f"{NAME}-janitor")["spec"]["replicas"] == 2
    assert cluster.get(namespace, "secret", f"{NAME}-redis")["data"]["password"] == password, "made once, kept"

    cluster.helm("rollback", "kiosk", "1", "--namespace", namespace)
    assert _level(cluster, namespace) == "info"

    cluster.helm("uninstall", "kiosk", "--namespace", namespace, "--wait")
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pods", "--all", "--timeout=60s", check=False)
    claims = {f"persistentvolumeclaim/data-{NAME}-redis-0"}  # a StatefulSet's claim: kept, as redis.keep says
    assert {
        each for each in cluster.left(namespace) if not each.startswith(("replicaset", "controllerrevision"))
    } == claims


def test_the_doctor_asks_for_the_rights_that_the_chart_gives(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart names what may be scaled, so the doctor has to ask by name."""
    monkeypatch.setenv("KUBECONFIG", cluster.plane.kubeconfig)
    monkeypatch.setenv("PATH", f"{tools()}:{os.environ['PATH']}")
    words = (str(CHART), "--namespace", namespace, "--values", KIND)
    cluster.helm("install", "kiosk", *words, "--set", "triton.autoscaling.enabled=true")
    assert _told_of_rights(namespace) == {
        "the autoscaler may do all that it needs",
        "the janitor may do all that it needs",
    }
    cluster.kubectl("-n", namespace, "delete", "role", f"{NAME}-autoscaler")
    # The API server hears of a change of rights a moment later.
    told = (sentence for _ in range(50) for sentence in _told_of_rights(namespace))
    lacking = next(sentence for sentence in told if sentence.startswith("the autoscaler may not "))
    for right in (f"patch deployment/{NAME}-consumer-all/scale", f"update leases/{NAME}-autoscaler"):
        assert right in lacking


def _told_of_rights(namespace: str) -> set[str]:
    found = examine(kubectl.words(namespace))
    return {finding.sentence for finding in found if finding.part == "permissions"}


def test_images_are_kept_unless_told_otherwise(cluster: Cluster, namespace: str) -> None:
    cluster.helm("install", "kiosk", str(CHART), "--namespace", namespace, "--values", KIND)
    cluster.helm("uninstall", "kiosk", "--namespace", namespace)
    assert f"persistentvolumeclaim/{NAME}-storage" in cluster.left(namespace)


def _level(cluster: Cluster, namespace: str) -> str:
    spec = cluster.get(namespace, "deployment", f"{NAME}-frontend")["spec"]["template"]["spec"]
    return next(str(v["value"]) for v in spec["containers"][0]["env"] if v["name"] == "KIOSK_TELEMETRY__LOG_LEVEL")


async def test_the_policy_refuses_what_is_not_restricted(cluster: Cluster, namespace: str) -> None:
    """The check that the policy is in force at all: a privileged pod is not made."""
    labels = {"app": "root"}
    pod = {"containers": [{"name": "x", "image": "x", "securityContext": {"privileged": True}}]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    wish = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "root"}, "spec": spec}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", given=yaml.safe_dump(wish))
    async with asyncio.timeout(30):
        while "PodSecurityPolicy" not in await asyncio.to_thread(cluster.kubectl, "-n", namespace, "get", "events"):
            assert not cluster.kubectl("-n", namespace, "get", "pods", "-o", "name")


@contextlib.asynccontextmanager
async def autoscaler(cluster: Cluster, namespace: str, url: str, folder: Path) -> AsyncIterator[Container]:
    """The real autoscaler as the chart describes it, with a token of its own service account."""
    objects = template("--namespace", namespace, case="kind")
    manifest = pod_specs(objects)[f"Deployment/{NAME}-autoscaler"]["containers"][0]
    token = json.loads(
        cluster.kubectl(
            "create",
            "--raw",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{NAME}-autoscaler/token",
            "-f",
            "-",
            given='{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}',
        )
    )["status"]["token"]
    config = yaml.safe_load(Path(cluster.plane.kubeconfig).read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    places = {f"redis://:$(REDIS_PASSWORD)@{NAME}-redis.{namespace}.svc:6379/0": url}
    extra = {"KIOSK_KUBERNETES__KUBECONFIG": str(kubeconfig), "KIOSK_REDIS__URL": url}
    container = Container(manifest, folder, places, extra).start()
    try:
        yield container
    finally:
        await container.stop()


async def test_the_charts_rights_are_enough_to_scale(
    cluster: Cluster, namespace: str, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Forty jobs, sixteen for each pod: three pods; and an upgrade of the release does not undo that."""
    words = (str(CHART), "--namespace", namespace, "--values", KIND)
    cluster.helm("install", "kiosk", *words)
    store = open_store(own_redis.url, "{kiosk}:")
    async with contextlib.aclosing(store), autoscaler(cluster, namespace, own_redis.url, tmp_path) as container:
        await container.until("readinessProbe")
        await _submit(store, 40)
        deployment = f"{NAME}-consumer-all"
        await _until(lambda: cluster.get(namespace, "deployment", deployment)["spec"]["replicas"] == 3, container)
        await asyncio.to_thread(cluster.helm, "upgrade", "kiosk", *words, "--set", "images.tag=next")
        assert cluster.get(namespace, "deployment", deployment)["spec"]["replicas"] == 3
        assert "Refused" not in container.said()
        assert "403" not in container.said()


async def test_the_benchmark_runs_when_it_is_scaled_up(
    cluster: Cluster, namespace: str, working: Served, tmp_path: Path
) -> None:
    """Scaled from 0 to 1 it has a pod, whose own container does the jobs; scaled down again, the pod goes."""
    wanted = ("--set", "console.benchmark.file=cells.tif", "--set", "console.benchmark.count=3")
    await asyncio.to_thread(cluster.helm, "install", "kiosk", str(CHART), "-n", namespace, "--values", KIND, *wanted)
    await working.front.storage.put("uploads/cells.tif", TIFF)
    assert _benchmark_pods(cluster, namespace) == []

    await asyncio.to_thread(_scale_benchmark, cluster, namespace, 1)
    async with asyncio.timeout(120):
        while not (pods := await asyncio.to_thread(_benchmark_pods, cluster, namespace)):
            pass
    places = {
        f"http://{NAME}-frontend.{namespace}.svc:80": working.url,
        "file:///data": (tmp_path / "storage").as_uri(),
        "/tmp/benchmark": str(tmp_path / "benchmark"),
    }
    container = Container(pods[0]["spec"]["containers"][0], tmp_path, places, pod=pods[0]["metadata"]["name"]).start()
    try:
        done = tmp_path / "storage" / "benchmarks" / "done" / container.pod
        await _until(done.exists, container)
        result = json.loads((tmp_path / "storage" / done.read_text()).read_text())
        assert [(job["input_file"], job["status"]) for job in result["job_data"]] == [("cells.tif", "done")] * 3
        await asyncio.to_thread(_scale_benchmark, cluster, namespace, 0)
        await _until(lambda: not _benchmark_pods(cluster, namespace), container)
    finally:
        code = await container.stop()
    assert code == 0, container.said()


def _scale_benchmark(cluster: Cluster, namespace: str, replicas: int) -> None:
    cluster.kubectl("-n", namespace, "scale", f"deployment/{NAME}-benchmark", f"--replicas={replicas}")


def _benchmark_pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """Those that run."""
    words = ("get", "pods", "-l", "cellkiosk/part=benchmark", "--field-selector=status.phase=Running", "-o", "json")
    pods: list[dict[str, Any]] = json.loads(cluster.kubectl("-n", namespace, *words))["items"]
    return pods


async def _submit(store: JobStore, count: int) -> None:
    await store.announce(JobType("segmentation", "Segmentation", "Finds cells."))
    await store.submit(*[NewJob(new_id("segmentation"), {"input_file_name": "x"}) for _ in range(count)])


async def _until(true: Any, container: Container) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(true):
            assert container.process is not None
            assert container.process.poll() is None, container.said()
