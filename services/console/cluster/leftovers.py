"""What a cluster has left behind: found by label, by name and by what refers to what; each with its monthly price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.console.cluster.cloud import Cloud
from services.console.cluster.shape import GKE_LABEL, LABEL, NAMESPACE, POOLS, Shape

#: US dollars a month by list prices of us-west1, 2019-06, to show what a leftover costs; 730 hours a month.
_MONTH = 730
_FORWARDING_RULE = 0.025 * _MONTH
_IDLE_ADDRESS = 0.010 * _MONTH
_CLUSTER = 0.10 * _MONTH
#: Parts of a load balancer, those that refer to others first: kind to its name for people and its order.
_BALANCER = {
    "targetHttpProxies": ("HTTP proxy", 2),
    "targetHttpsProxies": ("HTTPS proxy", 2),
    "urlMaps": ("URL map", 3),
    "backendServices": ("backend service", 4),
    "healthChecks": ("health check", 5),
    "networkEndpointGroups": ("endpoint group", 5),
}
_DISK_GB = {"pd-standard": 0.040, "pd-ssd": 0.170, "pd-balanced": 0.100}


@dataclass(frozen=True)
class Leftover:
    """Something that could be deleted.

    Attributes:
        kind: for people, such as ``disk``.
        name: for people.
        month: US dollars a month at least; None where that depends on its use.
        service, path: where the API deletes it.
        order: those of a lower order go first, since others refer to them.
    """

    kind: str
    name: str
    month: float | None
    service: str
    path: str
    order: int

    @property
    def price(self) -> str:
        """Its monthly price in words."""
        return "by what it holds" if self.month is None else f"${self.month:.2f} a month"


async def find(cloud: Cloud, shape: Shape, *, bucket: bool = True) -> list[Leftover]:
    """Return what belongs to a cluster, in the order in which it can be deleted."""
    found = await _clusters(cloud, shape)
    pools = [item async for item in _all(cloud, "targetPools") if _is_pool(item, shape)]
    rules = [item async for item in _all(cloud, "forwardingRules") if _is_rule(item, shape, pools)]
    found += [_compute("forwarding rule", item, _FORWARDING_RULE, 1) for item in rules]
    found += await _balancer(cloud, shape, rules)
    found += [_compute("target pool", item, 0.0, 4) for item in pools]
    addresses = {str(rule.get("IPAddress")) for rule in rules}
    async for item in _all(cloud, "addresses"):
        if _named(item, shape) or str(item.get("address")) in addresses:
            found.append(_compute("address", item, _IDLE_ADDRESS, 6))
    path = f"compute/v1/projects/{shape.project}/global/firewalls"
    async for item in cloud.pages("compute", path, "items"):
        if _named(item, shape) or any(_tag(tag, shape) for tag in item.get("targetTags", [])):
            found.append(_compute("firewall rule", item, 0.0, 7))
    async for item in _all(cloud, "disks"):
        if _named(item, shape):
            found.append(_compute("disk", item, _disk_price(item), 8))
    found += await _accounts(cloud, shape)
    if bucket:
        found += await _buckets(cloud, shape)
    return sorted(found, key=lambda leftover: leftover.order)


def _all(cloud: Cloud, kind: str) -> Any:
    return cloud.pages("compute", f"compute/v1/projects/{cloud.project}/aggregated/{kind}", "items")


def _compute(kind: str, item: Mapping[str, Any], month: float, order: int) -> Leftover:
    link = str(item["selfLink"])
    return Leftover(kind, item["name"], month, "compute", f"compute/v1/{link[link.index('/projects/') + 1 :]}", order)


def _named(item: Mapping[str, Any], shape: Shape) -> bool:
    """By label, or by the form that GKE gives to names: the 8 hex digits keep ``lab`` apart from ``lab-2``."""
    labels = item.get("labels") or {}
    if shape.name in (labels.get(LABEL), labels.get(GKE_LABEL)):
        return True
    return re.match(rf"gke-{re.escape(shape.name)}-[0-9a-f]{{8}}-", item["name"]) is not None


def _tag(tag: str, shape: Shape) -> bool:
    return re.fullmatch(rf"gke-{re.escape(shape.name)}-[0-9a-f]{{8}}-node", tag) is not None


def _is_pool(item: Mapping[str, Any], shape: Shape) -> bool:
    """A load balancer's pool tells whose it is only by its nodes, and those of a deleted cluster are still listed."""
    node = re.compile(rf"gke-{re.escape(shape.name)}-({'|'.join(POOLS)})-[0-9a-f]{{8}}-\w+")
    instances = [str(link).rpartition("/")[2] for link in item.get("instances", [])]
    return _named(item, shape) or any(node.fullmatch(name) for name in instances)


def _is_rule(item: Mapping[str, Any], shape: Shape, pools: list[dict[str, Any]]) -> bool:
    ours = _named(item, shape) or _described(item, shape)
    return ours or any(item.get("target") == pool["selfLink"] for pool in pools)


async def _balancer(cloud: Cloud, shape: Shape, rules: list[dict[str, Any]]) -> list[Leftover]:
    """Follow the references from the forwarding rules on; a part whose referrer is gone tells itself whose it is."""
    found: list[Leftover] = []
    wanted = {link for rule in rules for link in _links(rule)}
    for kind, (words, order) in _BALANCER.items():
        async for item in _all(cloud, kind):
            if item["selfLink"] in wanted or _named(item, shape) or _described(item, shape):
                found.append(_compute(words, item, 0.0, order))
                wanted |= _links(item)
    return found


def _links(item: Mapping[str, Any]) -> set[str]:
    """Return the addresses of what a part of a load balancer refers to."""
    links = {str(item[field]) for field in ("target", "urlMap", "defaultService", "backendService") if item.get(field)}
    links |= {str(link) for link in item.get("healthChecks", [])}
    links |= {str(backend["group"]) for backend in item.get("backends", []) if backend.get("group")}
    for matcher in item.get("pathMatchers", []):
        links |= _links(matcher)
        links |= {str(rule["service"]) for rule in matcher.get("pathRules", []) if rule.get("service")}
    return links


def _described(item: Mapping[str, Any], shape: Shape) -> bool:
    """Tell whether GKE says in the description that it made this for a service or an ingress of our release."""
    text = str(item.get("description", ""))
    ours = f"{re.escape(shape.name)}-cellkiosk-"
    if re.search(rf'"kubernetes\.io/(service|ingress)-name"\s*:\s*"{NAMESPACE}/{ours}', text):
        return True
    of_namespace = re.search(rf'"namespace"\s*:\s*"{NAMESPACE}"', text)
    return bool(of_namespace and re.search(rf'"service-name"\s*:\s*"{ours}', text))


def _disk_price(item: Mapping[str, Any]) -> float:
    kind = str(item.get("type", "")).rpartition("/")[2]
    return float(item.get("sizeGb", 0)) * _DISK_GB.get(kind, max(_DISK_GB.values()))


async def _clusters(cloud: Cloud, shape: Shape) -> list[Leftover]:
    answer = await cloud.call("GET", "container", f"v1/projects/{shape.project}/locations/-/clusters")
    return [
        Leftover(
            "cluster",
            item["name"],
            _CLUSTER,
            "container",
            f"v1/projects/{shape.project}/locations/{item['location']}/clusters/{item['name']}",
            0,
        )
        for item in answer.get("clusters", [])
        if item["name"] == shape.name
    ]


async def _accounts(cloud: Cloud, shape: Shape) -> list[Leftover]:
    path = f"v1/projects/{shape.project}/serviceAccounts"
    return [
        Leftover("service account", item["email"], 0.0, "iam", f"{path}/{item['email']}", 9)
        async for item in cloud.pages("iam", path, "accounts")
        if item["email"] == shape.email
    ]


async def _buckets(cloud: Cloud, shape: Shape) -> list[Leftover]:
    return [
        Leftover("bucket", item["name"], None, "storage", f"storage/v1/b/{item['name']}", 10)
        async for item in cloud.pages("storage", "storage/v1/b", "items", {"project": shape.project})
        if item["name"] == shape.bucket or (item.get("labels") or {}).get(LABEL) == shape.name
    ]
