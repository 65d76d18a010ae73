"""What a cluster for CellKiosk looks like: its parts by name, and the requests that make them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInput

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,24}[a-z0-9])?")
#: What every resource that `kiosk` makes carries.
LABEL = "cellkiosk-cluster"
#: What GKE puts on the resources of a cluster by itself.
GKE_LABEL = "goog-k8s-cluster-name"
#: APIs that are needed, as the service usage API calls them.
APIS = ("compute.googleapis.com", "container.googleapis.com", "iam.googleapis.com", "storage.googleapis.com")
POOLS = ("system", "consumer", "gpu")
#: Least and most nodes of the pool that is always there.
SYSTEM_NODES = (1, 3)
#: In which GKE starts a pool's first nodes where the location is a region.
_ZONES = 3
#: The quota that a new project has none of, whatever a region allows.
ALL_GPUS = "GPUS_ALL_REGIONS"
#: Kubernetes namespace of the release; the release is called like the cluster.
NAMESPACE = "cellkiosk"


@dataclass(frozen=True)
class Shape:
    """What is wanted.

    Attributes:
        name: of the cluster; everything else is named after it.
        project: of Google Cloud.
        location: a zone, or a region for a regional cluster.
        machine: of the system and consumer nodes.
        gpu_machine: of the GPU nodes.
        gpu: accelerator type; empty for a cluster without GPUs.
        gpus: most GPU nodes, with one GPU each.
        consumers: most consumer nodes.
        spot: whether GPU nodes are spot machines; consumers always are.
    """

    name: str
    project: str
    location: str = "us-west1-a"
    machine: str = "n1-standard-4"
    gpu_machine: str = "n1-highmem-2"
    gpu: str = "nvidia-tesla-t4"
    gpus: int = 1
    consumers: int = 10
    spot: bool = False

    def __post_init__(self) -> None:
        """Refuse names and numbers that Google would refuse half-way."""
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"The cluster's name is {self.name!r}; allowed are 1 to 26 small letters, digits and hyphens, "
                "a letter first."
            )
        if not self.project:
            raise InvalidInput("Name the Google Cloud project by --project.")
        if min(self.gpus, self.consumers) < 0:
            raise InvalidInput("Numbers of nodes must not be negative.")

    @property
    def region(self) -> str:
        """The region of the location."""
        return self.location if self.location.count("-") == 1 else self.location.rpartition("-")[0]

    @property
    def parent(self) -> str:
        """Path of the clusters of the location."""
        return f"v1/projects/{self.project}/locations/{self.location}/clusters"

    @property
    def bucket(self) -> str:
        """Name of the bucket: unique in the world by the project's name."""
        return f"{self.project}-{self.name}"[:63]

    @property
    def account(self) -> str:
        """Id of the service account."""
        return f"kiosk-{self.name}"[:30].rstrip("-")

    @property
    def email(self) -> str:
        """Address of the service account."""
        return f"{self.account}@{self.project}.iam.gserviceaccount.com"

    def cluster_request(self) -> dict[str, Any]:
        """Return the request that makes the cluster with its pools, autoscaled from zero but for the system's."""
        pools = [
            self._pool("system", self.machine, *SYSTEM_NODES),
            self._pool("consumer", self.machine, 0, self.consumers, spot=True),
        ]
        if self.gpu and self.gpus:
            pools.append(self._pool("gpu", self.gpu_machine, 0, self.gpus, spot=self.spot, gpu=self.gpu))
        return {
            "cluster": {
                "name": self.name,
                "resourceLabels": {LABEL: self.name},
                "workloadIdentityConfig": {"workloadPool": f"{self.project}.svc.id.goog"},
                "ipAllocationPolicy": {"useIpAliases": True},
                "nodePools": pools,
            }
        }

    def _pool(
        self, name: str, machine: str, least: int, most: int, *, spot: bool = False, gpu: str = ""
    ) -> dict[str, Any]:
        config: dict[str, Any] = {
            "machineType": machine,
            "spot": spot,
            "labels": {"cellkiosk/pool": name},
            "resourceLabels": {LABEL: self.name},
            "workloadMetadataConfig": {"mode": "GKE_METADATA"},
            "oauthScopes": ["https://www.googleapis.com/auth/cloud-platform"],
        }
        if name != "system":
            config["taints"] = [{"key": "cellkiosk/pool", "value": name, "effect": "NO_SCHEDULE"}]
        if gpu:  # GKE installs the driver itself
            driver = {"gpuDriverVersion": "DEFAULT"}
            config["accelerators"] = [
                {"acceleratorType": gpu, "acceleratorCount": "1", "gpuDriverInstallationConfig": driver}
            ]
        return {
            "name": name,
            "initialNodeCount": least,
            "config": config,
            # Of the pool, not of each zone of a region.
            "autoscaling": {"enabled": True, "totalMinNodeCount": least, "totalMaxNodeCount": most},
            "management": {"autoRepair": True, "autoUpgrade": True},
        }

    def values(self) -> dict[str, Any]:
        """Return the chart's values that fit this cluster."""
        values: dict[str, Any] = {
            "storage": {"bucket": self.bucket},
            "workloadIdentity": {"googleServiceAccount": self.email},
            # Spot nodes: of the 30 s after the notice Google leaves 15 to pods like these.
            "settings": {"grace": 10},
            "consumer": {"defaults": {**_on("consumer"), "terminationGracePeriodSeconds": 15}},
        }
        if self.gpu and self.gpus:
            place = _on("gpu")  # GKE taints nodes with GPUs by itself, too
            place["tolerations"].append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
            scaled = {"enabled": True, "target": {"max_replicas": self.gpus}}
            values["triton"] = {"gpus": 1, "autoscaling": scaled, **place}
        return values

    def least(self) -> dict[str, int]:
        """Return what must be free so that any work is done: Google's metric to number."""
        zones = 1 if self.location.count("-") > 1 else _ZONES
        return self._quotas(zones * SYSTEM_NODES[0], min(1, self.consumers), min(1, self.all_gpus))

    def most(self) -> dict[str, int]:
        """Return what must be free so that every pool can reach its largest size."""
        return self._quotas(SYSTEM_NODES[1], self.consumers, self.all_gpus)

    @property
    def all_gpus(self) -> int:
        """GPUs at most."""
        return self.gpus if self.gpu else 0

    def _quotas(self, system: int, consumers: int, gpus: int) -> dict[str, int]:
        wanted = {"IN_USE_ADDRESSES": 1 + system + consumers + gpus}  # one for each node, and one for the way in
        if gpus:
            model = self.gpu.removeprefix("nvidia-tesla-").removeprefix("nvidia-").upper().replace("-", "_")
            wanted[f"{'PREEMPTIBLE_' if self.spot else ''}NVIDIA_{model}_GPUS"] = gpus
            wanted[ALL_GPUS] = gpus
        return wanted


def _on(pool: str) -> dict[str, Any]:
    """Return what places pods on the nodes of a pool, and lets them through its taint."""
    toleration = {"key": "cellkiosk/pool", "operator": "Equal", "value": pool, "effect": "NoSchedule"}
    return {"nodeSelector": {"cellkiosk/pool": pool}, "tolerations": [toleration]}
