"""Making a cluster: checks, then steps that each look whether they are done already, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.console.cluster.cloud import Cloud
from services.console.cluster.shape import ALL_GPUS, APIS, LABEL, NAMESPACE, Shape
from shared.errors import InvalidInput, NotFound

#: Roles of the pods' account: its bucket only.
_BUCKET_ROLE = "roles/storage.objectAdmin"
#: Kubernetes service accounts that use the bucket, as the chart names them after its release.
_PODS = ("frontend", "consumer", "janitor", "triton", "console")


@dataclass(frozen=True)
class Step:
    """One thing that is made.

    Attributes:
        title: for people.
        there: whether it has been made.
        make: makes it.
    """

    title: str
    there: Callable[[], Awaitable[bool]]
    make: Callable[[], Awaitable[Any]]


async def check(cloud: Cloud, shape: Shape) -> list[str]:
    """See before anything is made that it can be made; return warnings of quotas below the largest size.

    Raises:
        InvalidInput: an API is off, or a quota too small for any work; the sentence says what to request.
    """
    path = f"v1/projects/{shape.project}/services"
    enabled = {
        str(item["name"]).rpartition("/")[2]
        async for item in cloud.pages("serviceusage", path, "services", {"filter": "state:ENABLED"})
    }
    if off := [api for api in APIS if api not in enabled]:
        raise InvalidInput(
            f"The project {shape.project} has not enabled {', '.join(off)}. "
            f"Run: gcloud services enable {' '.join(off)} --project {shape.project}"
        )
    if await exists(cloud, "container", f"{shape.parent}/{shape.name}"):
        return []  # its own nodes are what uses the quotas
    project = f"compute/v1/projects/{shape.project}"
    everywhere, here = await _quotas(cloud, project), await _quotas(cloud, f"{project}/regions/{shape.region}")
    least, warnings = shape.least(), []
    for metric, most in shape.most().items():
        limit, usage = (everywhere if metric == ALL_GPUS else here).get(metric, (0.0, 0.0))
        free = limit - usage
        where = "all regions together" if metric == ALL_GPUS else shape.region
        has = f"The project {shape.project} has {free:g} of {metric} left in {where}, and"
        request = f"request a limit of {usage + most:g} under IAM & Admin, Quotas, in the console of Google Cloud"
        if free < least[metric]:
            needed = f"{least[metric]} {'is' if least[metric] == 1 else 'are'} needed at least"
            raise InvalidInput(f"{has} {needed}: {request}, which is enough for all nodes.")
        if free < most:
            warnings.append(f"{has} {most} are needed when all nodes run: {request}; until then fewer will start.")
    return warnings


async def _quotas(cloud: Cloud, path: str) -> dict[str, tuple[float, float]]:
    """Return the limit and the usage of each metric of a project or region."""
    quotas = (await cloud.call("GET", "compute", path)).get("quotas", [])
    return {quota["metric"]: (quota["limit"], quota["usage"]) for quota in quotas}


async def exists(cloud: Cloud, service: str, path: str) -> bool:
    """Tell whether there is such a thing."""
    try:
        await cloud.call("GET", service, path)
    except NotFound:
        return False
    return True


def steps(cloud: Cloud, shape: Shape) -> list[Step]:
    """Return what is made, in order."""
    accounts = f"v1/projects/{shape.project}/serviceAccounts"
    account = f"{accounts}/{shape.email}"
    return [
        Step(
            f"bucket {shape.bucket} in {shape.region}",
            lambda: exists(cloud, "storage", f"storage/v1/b/{shape.bucket}"),
            lambda: cloud.call("POST", "storage", "storage/v1/b", _bucket(shape), {"project": shape.project}),
        ),
        Step(
            f"service account {shape.email}",
            lambda: exists(cloud, "iam", account),
            lambda: cloud.call(
                "POST",
                "iam",
                accounts,
                {"accountId": shape.account, "serviceAccount": {"displayName": f"{LABEL}={shape.name}"}},
            ),
        ),
        Step(
            f"{_BUCKET_ROLE} of the account on the bucket",
            lambda: _bound(cloud, "storage", f"storage/v1/b/{shape.bucket}/iam", _BUCKET_ROLE, _member(shape)),
            lambda: _bind_bucket(cloud, shape),
        ),
        Step(
            "workload identity of the pods as that account",
            lambda: _identities_bound(cloud, shape, account),
            lambda: _bind_identities(cloud, shape, account),
        ),
        Step(
            f"cluster {shape.name} in {shape.location} with the pools system, consumer and gpu",
            lambda: exists(cloud, "container", f"{shape.parent}/{shape.name}"),
            lambda: cloud.change("POST", "container", shape.parent, shape.cluster_request()),
        ),
    ]


def _bucket(shape: Shape) -> dict[str, Any]:
    uniform = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}
    return {"name": shape.bucket, "location": shape.region, "labels": {LABEL: shape.name}, "iamConfiguration": uniform}


def _member(shape: Shape) -> str:
    return f"serviceAccount:{shape.email}"


async def _bound(cloud: Cloud, service: str, path: str, role: str, member: str) -> bool:
    policy = await cloud.call("GET", service, path)
    return any(b["role"] == role and member in b["members"] for b in policy.get("bindings", []))


async def _bind_bucket(cloud: Cloud, shape: Shape) -> None:
    path = f"storage/v1/b/{shape.bucket}/iam"
    policy = await cloud.call("GET", "storage", path)
    policy.setdefault("bindings", []).append({"role": _BUCKET_ROLE, "members": [_member(shape)]})
    await cloud.call("PUT", "storage", path, policy)


def _identities(shape: Shape) -> list[str]:
    pool = f"serviceAccount:{shape.project}.svc.id.goog"
    return [f"{pool}[{NAMESPACE}/{shape.name}-cellkiosk-{pod}]" for pod in _PODS]


async def _identities_bound(cloud: Cloud, shape: Shape, account: str) -> bool:
    policy = await cloud.call("POST", "iam", f"{account}:getIamPolicy")
    bound = {m for b in policy.get("bindings", []) if b["role"].endswith("workloadIdentityUser") for m in b["members"]}
    return set(_identities(shape)) <= bound


async def _bind_identities(cloud: Cloud, shape: Shape, account: str) -> None:
    policy = await cloud.call("POST", "iam", f"{account}:getIamPolicy")
    binding = {"role": "roles/iam.workloadIdentityUser", "members": _identities(shape)}
    policy.setdefault("bindings", []).append(binding)
    await cloud.call("POST", "iam", f"{account}:setIamPolicy", {"policy": policy})
