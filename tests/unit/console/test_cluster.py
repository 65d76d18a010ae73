"""Clusters, against a stand-in of Google's REST API: paging, operations, 403, 404, and resources in use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.console.cluster import cloud as clouds
from services.console.cluster import command
from services.console.cluster.shape import Shape
from services.console.cluster.steps import _identities
from services.console.commands import main
from tests.fixtures.helm import CHART, of_kind, pod_specs, run_helm

PROJECT = "lab-project"
LINK = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
GLOBAL = f"{LINK}/global"
POOL = f"{LINK}/regions/us-west1/targetPools/a1b2"
NODE = f"{LINK}/zones/us-west1-a/instances/gke-lab-consumer-0a1b2c3d-x7k2"

#: What a creation that failed half-way, and a destruction that was cut off, have left; and what is somebody else's.
LEFT: dict[str, list[dict[str, Any]]] = {
    "forwardingRules": [
        {
            "name": "a1b2",
            "target": POOL,
            "IPAddress": "198.51.100.7",
            "selfLink": f"{LINK}/regions/us-west1/forwardingRules/a1b2",
        },
        {
            "name": "theirs",
            "target": "x",
            "IPAddress": "198.51.100.9",
            "selfLink": f"{LINK}/regions/us-west1/forwardingRules/theirs",
        },
        {
            "name": "k8s2-fr",
            "description": '{"kubernetes.io/ingress-name": "cellkiosk/lab-cellkiosk-frontend"}',
            "target": f"{GLOBAL}/targetHttpsProxies/k8s2-ts",
            "selfLink": f"{GLOBAL}/forwardingRules/k8s2-fr",
        },
    ],
    "targetHttpProxies": [],
    "targetHttpsProxies": [
        {"name": "k8s2-ts", "urlMap": f"{GLOBAL}/urlMaps/k8s2-um", "selfLink": f"{GLOBAL}/targetHttpsProxies/k8s2-ts"}
    ],
    "urlMaps": [
        {
            "name": "k8s2-um",
            "pathMatchers": [{"pathRules": [{"service": f"{GLOBAL}/backendServices/k8s1-be"}]}],
            "selfLink": f"{GLOBAL}/urlMaps/k8s2-um",
        }
    ],
    "backendServices": [
        {
            "name": "k8s1-be",
            "healthChecks": [f"{GLOBAL}/healthChecks/k8s1-hc"],
            "backends": [{"group": f"{LINK}/zones/us-west1-a/networkEndpointGroups/k8s1-neg"}],
            "selfLink": f"{GLOBAL}/backendServices/k8s1-be",
        },
        {
            "name": "theirs",
            "description": '{"kubernetes.io/service-name":"cellkiosk/lab-2-cellkiosk-frontend"}',
            "selfLink": f"{GLOBAL}/backendServices/theirs",
        },
    ],
    "healthChecks": [
        {"name": "k8s1-hc", "selfLink": f"{GLOBAL}/healthChecks/k8s1-hc"},
        {"name": "theirs", "selfLink": f"{GLOBAL}/healthChecks/theirs"},
    ],
    "networkEndpointGroups": [
        {"name": "k8s1-neg", "selfLink": f"{LINK}/zones/us-west1-a/networkEndpointGroups/k8s1-neg"},
        {
            "name": "k8s1-old",
            "description": '{"cluster-uid":"1","namespace":"cellkiosk","service-name":"lab-cellkiosk-frontend"}',
            "selfLink": f"{LINK}/zones/us-west1-a/networkEndpointGroups/k8s1-old",
        },
        {
            "name": "theirs",
            "description": '{"cluster-uid":"2","namespace":"other","service-name":"lab-cellkiosk-frontend"}',
            "selfLink": f"{LINK}/zones/us-west1-a/networkEndpointGroups/theirs",
        },
    ],
    "targetPools": [
        {"name": "a1b2", "instances": [NODE], "selfLink": POOL},
        {"name": "theirs", "instances": [NODE.replace("gke-lab-", "gke-lab-2-")], "selfLink": POOL + "x"},
    ],
    "addresses": [{"name": "ip-1", "address": "198.51.100.7", "selfLink": f"{LINK}/regions/us-west1/addresses/ip-1"}],
    "firewalls": [
        {"name": "gke-lab-0a1b2c3d-all", "selfLink": f"{LINK}/global/firewalls/gke-lab-0a1b2c3d-all"},
        {
            "name": "k8s-fw-a1b2",
            "targetTags": ["gke-lab-0a1b2c3d-node"],
            "selfLink": f"{LINK}/global/firewalls/k8s-fw-a1b2",
        },
        {"name": "gke-lab-2-0a1b2c3d-all", "selfLink": f"{LINK}/global/firewalls/gke-lab-2-0a1b2c3d-all"},
    ],
    "disks": [
        {
            "name": "pvc-1",
            "labels": {"goog-k8s-cluster-name": "lab"},
            "sizeGb": "100",
            "type": f"{LINK}/zones/us-west1-a/diskTypes/pd-ssd",
            "selfLink": f"{LINK}/zones/us-west1-a/disks/pvc-1",
        },
        {
            "name": "pvc-2",
            "labels": {"goog-k8s-cluster-name": "other"},
            "sizeGb": "1",
            "selfLink": f"{LINK}/zones/z/disks/pvc-2",
        },
    ],
}


class Google:
    """As much of Google Cloud as the console uses; pages hold one item, operations end when asked about twice."""

    def __init__(self) -> None:
        self.compute: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LEFT}
        self.clusters: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.buckets: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, list[str]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.apis = [
            "compute.googleapis.com",
            "container.googleapis.com",
            "iam.googleapis.com",
            "storage.googleapis.com",
        ]
        self.quotas = {"NVIDIA_T4_GPUS": 4, "IN_USE_ADDRESSES": 20}
        self.all_gpus = 4
        self.operations: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.forbidden = ""
        self.fails_once = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{service}/{path:.+}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.Response:
        path, method = request.match_info["path"], request.method
        self.asked.append((method, path))
        assert request.headers["Authorization"] == "Bearer let-me-in"
        if self.forbidden and self.forbidden in path and method == "DELETE":
            return fault(403, "Required 'compute.disks.delete' permission.")
        if self.fails_once and self.fails_once in path and method == "POST":
            self.fails_once = ""
            return fault(503, "Come again.")
        body = await request.json() if request.can_read_body else {}
        service = request.match_info["service"]
        handler = self.computed if service == "compute" else getattr(self, service)
        return handler(method, path, body, request.query.get("pageToken", ""))

    def page(self, field: str, items: list[Any], token: str, wrap: Any = lambda item: [item]) -> web.Response:
        index = int(token or 0)
        if index >= len(items):
            return web.json_response({})
        more = {"nextPageToken": str(index + 1)} if index + 1 < len(items) else {}
        return web.json_response({field: wrap(items[index]), **more})

    def operation(self, service: str) -> web.Response:
        name = f"operation-{len(self.operations)}"
        self.operations[name] = 0
        version = "compute/v1" if service == "compute" else "v1"
        link = f"https://{service}.example/{version}/projects/{PROJECT}/global/operations/{name}"
        kind = {"kind": "compute#operation"} if service == "compute" else {"operationType": "CREATE_CLUSTER"}
        return web.json_response({"name": name, "selfLink": link, "status": "RUNNING", **kind})

    def operation_state(self, path: str) -> web.Response:
        name = path.rpartition("/")[2]
        self.operations[name] += 1
        return web.json_response({"name": name, "status": "DONE" if self.operations[name] > 1 else "RUNNING"})

    def computed(self, method: str, path: str, _body: Any, token: str) -> web.Response:
        name = path.rpartition("/")[2]
        if "/operations/" in path:
            return self.operation_state(path)
        if path.endswith("/regions/us-west1"):
            quotas = [{"metric": m, "limit": limit, "usage": 0} for m, limit in self.quotas.items()]
            return web.json_response({"quotas": quotas})
        if path.endswith(f"/projects/{PROJECT}"):
            return web.json_response({"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": self.all_gpus, "usage": 1}]})
        kind = next(kind for kind in LEFT if f"/{kind}" in path)
        if method == "GET":
            wrap = (lambda item: [item]) if kind == "firewalls" else (lambda item: {"zones/z": {kind: [item]}})
            return self.page("items", self.compute[kind], token, wrap)
        held = [item for item in self.compute[kind] if item["name"] == name]
        if not held:
            return fault(404, f"The resource {name!r} was not found")
        others = [item for items in self.compute.values() for item in items if item is not held[0]]
        if f'"{held[0]["selfLink"]}"' in json.dumps(others):
            return fault(400, f"The {name} is already being used by another", "resourceInUseByAnotherResource")
        self.compute[kind].remove(held[0])
        return self.operation("compute")

    def container(self, method: str, path: str, body: Any, _token: str) -> web.Response:
        name = path.rpartition("/")[2]
        if "/operations/" in path:
            return self.operation_state(path)
        if method == "POST":
            made = body["cluster"] | {"location": path.split("/")[4], "status": "RUNNING", "currentNodeCount": 1}
            self.clusters[made["name"]] = made
            return self.operation("container")
        if name == "clusters":
            return web.json_response({"clusters": list(self.clusters.values())})
        if name not in self.clusters:
            return fault(404, f"Not found: {path}.")
        if method == "DELETE":
            del self.clusters[name]
            return self.operation("container")
        return web.json_response(self.clusters[name])

    def iam(self, method: str, path: str, body: Any, token: str) -> web.Response:
        name = path.rpartition("/")[2]
        if ":" in name:
            account, _, verb = name.partition(":")
            if verb == "setIamPolicy":
                self.policies[account] = body["policy"]
            return web.json_response(self.policies.get(account, {}))
        if method == "POST":
            email = f"{body['accountId']}@{PROJECT}.iam.gserviceaccount.com"
            self.accounts[email] = {"email": email}
            return web.json_response(self.accounts[email])
        if name == "serviceAccounts":
            return self.page("accounts", list(self.accounts.values()), token)
        if name not in self.accounts:
            return fault(404, "Unknown service account")
        return web.json_response(self.accounts.pop(name) if method == "DELETE" else self.accounts[name])

    def storage(self, method: str, path: str, body: Any, token: str) -> web.Response:
        parts = path.split("/")[3:]
        if method == "POST":
            self.buckets[body["name"]] = body
            return web.json_response(body)
        if not parts:
            return self.page("items", list(self.buckets.values()), token)
        if parts[0] not in self.buckets:
            return fault(404, "The specified bucket does not exist.")
        if parts[1:] == ["iam"]:
            if method == "PUT":
                self.policies[parts[0]] = body
            return web.json_response(self.policies.get(parts[0], {}))
        objects = self.objects.setdefault(parts[0], [])
        if parts[1:] == ["o"]:
            return self.page("items", [{"name": name} for name in list(objects)], token)
        if len(parts) > 2:
            objects.remove("/".join(parts[2:]))
            return web.Response(status=204)
        if method == "DELETE":
            if objects:
                return fault(409, "The bucket you tried to delete is not empty.")
            del self.buckets[parts[0]]
            return web.Response(status=204)
        return web.json_response(self.buckets[parts[0]])

    def serviceusage(self, _method: str, _path: str, _body: Any, token: str) -> web.Response:
        return self.page("services", [{"name": f"projects/1/services/{api}"} for api in self.apis], token)


def fault(status: int, message: str, reason: str = "") -> web.Response:
    return web.json_response({"error": {"message": message, "errors": [{"reason": reason}]}}, status=status)


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    standin = Google()
    server = TestServer(standin.app())
    await server.start_server()
    monkeypatch.setenv("KIOSK_GCP_API", str(server.make_url("")).rstrip("/"))
    monkeypatch.setenv("KIOSK_GCP_TOKEN", "let-me-in")
    monkeypatch.setattr(clouds, "PAUSE", 0.0)
    monkeypatch.setattr(command, "PAUSE", 0.0)
    yield standin
    await server.close()


async def kiosk(*words: str) -> int:
    import asyncio

    return await asyncio.to_thread(main, ["cluster", *words, "--project", PROJECT])


async def test_a_cluster_is_made_looked_at_and_removed(google: Google, capsys: pytest.CaptureFixture[str]) -> None:
    assert await kiosk("create", "lab", "--yes", "--no-chart", "--gpus", "2") == 0
    pools = {pool["name"]: pool for pool in google.clusters["lab"]["nodePools"]}
    assert pools["gpu"]["config"]["accelerators"][0]["acceleratorType"] == "nvidia-tesla-t4"
    assert pools["gpu"]["autoscaling"] == {"enabled": True, "totalMinNodeCount": 0, "totalMaxNodeCount": 2}
    assert pools["consumer"]["config"]["spot"] is True
    assert google.clusters["lab"]["resourceLabels"] == {"cellkiosk-cluster": "lab"}
    assert google.buckets["lab-project-lab"]["labels"] == {"cellkiosk-cluster": "lab"}
    capsys.readouterr()
    before = len([call for call in google.asked if call[0] in ("POST", "PUT") and ":getIam" not in call[1]])
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 0
    after = len([call for call in google.asked if call[0] in ("POST", "PUT") and ":getIam" not in call[1]])
    assert after == before, "a second run makes nothing again"
    assert await kiosk("status", "lab") == 0
    assert "RUNNING, 1 nodes" in capsys.readouterr().out
    google.objects["lab-project-lab"] = ["output/a/b.zip"]
    assert await kiosk("destroy", "lab", "--yes") == 0
    assert "Kept: the bucket lab-project-lab" in capsys.readouterr().out
    assert (google.clusters, google.accounts) == ({}, {})
    assert await kiosk("clean", "lab", "--yes", "--bucket") == 0
    assert google.buckets == {}
    assert await kiosk("status", "lab") == 1


async def test_a_creation_goes_on_where_it_stopped(google: Google, capsys: pytest.CaptureFixture[str]) -> None:
    google.fails_once = "/clusters"
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 1
    assert "Come again." in capsys.readouterr().err
    assert google.buckets
    assert not google.clusters
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 0
    assert "is there  bucket" in capsys.readouterr().out
    assert "lab" in google.clusters


async def test_what_is_missing_is_said_before_anything_is_made(
    google: Google, capsys: pytest.CaptureFixture[str]
) -> None:
    google.quotas["NVIDIA_T4_GPUS"] = 0
    assert await kiosk("create", "lab", "--yes", "--no-chart", "--gpus", "3") == 2
    assert "has 0 of NVIDIA_T4_GPUS left in us-west1, and 1 is needed at least" in capsys.readouterr().err
    google.quotas["NVIDIA_T4_GPUS"] = 8
    google.all_gpus = 1
    assert await kiosk("create", "lab", "--yes", "--no-chart", "--gpus", "4") == 2
    assert (
        "has 0 of GPUS_ALL_REGIONS left in all regions together, and 1 is needed at least: request a limit of 5 under"
    ) in capsys.readouterr().err
    google.all_gpus = 4
    google.quotas["IN_USE_ADDRESSES"] = 3
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 2
    assert "has 3 of IN_USE_ADDRESSES left in us-west1, and 4 are needed at least" in capsys.readouterr().err
    assert await kiosk("create", "lab", "--yes", "--no-chart", "--gpus", "0", "--consumers", "0") == 0, "2 will do"
    google.buckets.clear()
    google.apis.remove("iam.googleapis.com")
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 2
    assert "gcloud services enable iam.googleapis.com --project lab-project" in capsys.readouterr().err
    assert not google.buckets


async def test_a_quota_that_only_the_largest_size_exceeds_is_a_warning(
    google: Google, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new project has 8 addresses; a cluster of few nodes does its work with them."""
    google.quotas["IN_USE_ADDRESSES"] = 8
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 0
    told = capsys.readouterr().out
    assert (
        "warning   The project lab-project has 8 of IN_USE_ADDRESSES left in us-west1, and 15 are needed when all "
        "nodes run: request a limit of 15"
    ) in told
    assert told.index("warning") < told.index("making"), "before anything is made"
    assert "lab" in google.clusters


async def test_what_a_cluster_uses_itself_does_not_keep_it_from_being_finished(google: Google) -> None:
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 0
    google.quotas |= {"IN_USE_ADDRESSES": 0, "NVIDIA_T4_GPUS": 0}
    assert await kiosk("create", "lab", "--yes", "--no-chart") == 0


def test_a_region_begins_with_a_node_in_each_of_its_zones() -> None:
    assert Shape("lab", PROJECT, "us-west1").least()["IN_USE_ADDRESSES"] == 6
    assert Shape("lab", PROJECT, "us-west1").most() == Shape("lab", PROJECT).most(), "bounds are of the whole pool"


async def test_leftovers_are_found_priced_and_deleted_and_others_left_alone(
    google: Google, capsys: pytest.CaptureFixture[str]
) -> None:
    google.compute = json.loads(json.dumps(LEFT))
    assert await kiosk("clean", "lab", "--dry-run") == 1
    told = capsys.readouterr().out
    assert "$18.25 a month" in told  # the forwarding rule
    assert "$17.00 a month" in told  # 100 GB of SSD
    assert "Together at least $60.80 a month." in told
    assert sum(len(items) for items in google.compute.values()) == sum(len(items) for items in LEFT.values())
    assert await kiosk("clean", "lab", "--yes") == 0
    left = {kind: [item["name"] for item in items] for kind, items in google.compute.items()}
    assert left == {
        "forwardingRules": ["theirs"],
        "targetHttpProxies": [],
        "targetHttpsProxies": [],
        "urlMaps": [],
        "backendServices": ["theirs"],
        "healthChecks": ["theirs"],
        "networkEndpointGroups": ["theirs"],
        "targetPools": ["theirs"],
        "addresses": [],
        "firewalls": ["gke-lab-2-0a1b2c3d-all"],
        "disks": ["pvc-2"],
    }
    assert await kiosk("clean", "lab", "--yes") == 0
    assert "Nothing is left." in capsys.readouterr().out


async def test_what_may_not_be_deleted_is_told_with_the_permission(
    google: Google, capsys: pytest.CaptureFixture[str]
) -> None:
    google.compute = json.loads(json.dumps(LEFT))
    google.forbidden = "/disks/"
    assert await kiosk("clean", "lab", "--yes") == 1
    told = capsys.readouterr().out
    assert "left      disk pvc-1: Google Cloud refuses: Required 'compute.disks.delete' permission." in told
    assert not any(item["name"] == "a1b2" for item in google.compute["targetPools"])


async def test_a_standing_cluster_is_not_left_behind(google: Google, capsys: pytest.CaptureFixture[str]) -> None:
    google.clusters["lab"] = {"name": "lab", "location": "us-west1-a"}
    assert await kiosk("clean", "lab", "--yes") == 1
    assert "The cluster lab stands" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["create", "Lab!"], "The cluster's name is 'Lab!'"),
        (["destroy", "lab"], "Nobody is there to be asked"),
    ],
)
async def test_wrong_words_get_a_sentence(
    google: Google, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    google.clusters["lab"] = {"name": "lab", "location": "us-west1-a"}
    assert await kiosk(*words) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_nobody_logged_in_is_told_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KIOSK_GCP_TOKEN", raising=False)
    monkeypatch.setenv("PATH", "")
    assert main(["cluster", "status", "lab", "--project", PROJECT]) == 2
    assert "install gcloud, or give a token in KIOSK_GCP_TOKEN" in capsys.readouterr().err


def test_the_chart_takes_the_clusters_values(tmp_path: Path) -> None:
    shape = Shape("lab", PROJECT)
    (tmp_path / "values.json").write_text(json.dumps(shape.values()))
    words = ["template", "lab", str(CHART), "--namespace", "cellkiosk", "--values", str(tmp_path / "values.json")]
    objects = [each for each in yaml.safe_load_all(run_helm(*words).stdout) if each]
    accounts = {
        each["metadata"]["name"]: each["metadata"].get("annotations", {}) for each in of_kind(objects, "ServiceAccount")
    }
    bound = [identity.rpartition("/")[2].rstrip("]") for identity in _identities(shape)]
    assert {name for name, notes in accounts.items() if shape.email in notes.values()} == set(bound)
    pods = pod_specs(objects)
    consumers = [spec for name, spec in pods.items() if "consumer" in name]
    tritons = [spec for name, spec in pods.items() if "triton" in name]
    assert consumers
    assert all(spec["nodeSelector"] == {"cellkiosk/pool": "consumer"} for spec in consumers)
    assert tritons
    assert all(spec["nodeSelector"] == {"cellkiosk/pool": "gpu"} for spec in tritons)
    assert all(spec["terminationGracePeriodSeconds"] == 15 for spec in consumers), "what a spot node leaves"
    (autoscaler,) = (spec for name, spec in pods.items() if name.endswith("-autoscaler"))
    env = {each["name"]: each.get("value") for each in autoscaler["containers"][0]["env"]}
    target = next(each for each in json.loads(env["KIOSK_TARGETS"]) if each["name"].endswith("-triton"))
    assert (target["min_replicas"], target["max_replicas"]) == (0, shape.gpus), "a GPU is paid only while there is work"
