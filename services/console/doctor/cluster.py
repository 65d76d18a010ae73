"""The doctor's examinations of a release in a cluster, through kubectl and from within its pods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.console import kubectl
from services.console.doctor.findings import Finding, failed, ok, warning
from shared.errors import KioskError

#: What the service accounts must be allowed to do, in the words of `kubectl auth can-i`: part of the chart to these.
RIGHTS = {
    "autoscaler": (("list", "pods"), ("patch", "pods"), ("create", "events"), ("create", "leases")),
    "janitor": (("list", "pods"), ("watch", "pods")),
}
#: Of the reasons why a container does not run, those that a person must mend, and how.
_REMEDIES = {
    "ImagePullBackOff": "Look at images.registry, images.tag and images.pullSecrets.",
    "ErrImagePull": "Look at images.registry, images.tag and images.pullSecrets.",
    "CreateContainerConfigError": "A Secret or ConfigMap that it names is missing; `kubectl describe pod` says which.",
    "CrashLoopBackOff": "Read why it ended: `kubectl logs --previous`.",
    "Unschedulable": "No node has room for it: look at requests, node selectors, tolerations and quotas.",
}
#: These pass by themselves.
_BEGINNING = ("ContainerCreating", "PodInitializing")
#: Restarts of a container that deserve a word.
_MANY = 5
#: The finding of the console's pod that the model servers' own inference makes up for.
_MODELS = "models"


def examine(begin: Sequence[str]) -> list[Finding]:
    """Look at pods, volumes and rights; then ask the console's pod and the model servers how they are."""
    try:
        pods = kubectl.read("get", "pods", "--selector", kubectl.SELECTOR, begin=begin)["items"]
    except KioskError as error:
        return [failed("cluster", str(error), "Check --context and --namespace, and that you are logged in.")]
    if not pods:
        remedy = "Name its namespace by --namespace, or install the chart."
        return [failed("cluster", "there is no pod of CellKiosk in this namespace", remedy)]
    found = [finding for pod in pods for finding in _pod(pod)]
    found = found or [ok("pods", f"all {len(pods)} are ready")]
    return [*found, *_claims(begin), *_rights(begin), *_within(begin, pods)]


def _pod(pod: Mapping[str, Any]) -> Iterator[Finding]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True" or status.get("phase") == "Succeeded"
    for container in status.get("containerStatuses", []):
        if container.get("restartCount", 0) >= _MANY:
            sentence = f"{name} has started {container['restartCount']} times again"
            yield warning("pods", sentence, _REMEDIES["CrashLoopBackOff"])
        if waiting := container.get("state", {}).get("waiting"):
            ready = True  # told here
            reason = waiting.get("reason", "")
            told = f"{name} waits: {reason} {waiting.get('message', '')}".strip()
            find = warning if reason in _BEGINNING else failed
            yield find("pods", told, _REMEDIES.get(reason, "See `kubectl describe pod`."))
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        told = f"{name} has no node: {placed.get('message', placed.get('reason', ''))}"
        yield failed("pods", told, _REMEDIES["Unschedulable"])
    elif not ready:
        yield failed("pods", f"{name} is not ready", "See `kubectl describe pod` and `kiosk logs --kubernetes`.")


def _claims(begin: Sequence[str]) -> Iterator[Finding]:
    claims = kubectl.read("get", "persistentvolumeclaims", "--selector", kubectl.SELECTOR, begin=begin)["items"]
    for claim in claims:
        if (phase := claim.get("status", {}).get("phase")) not in ("Bound", None):
            remedy = "Name a storage class that can make it, with the access mode of the values."
            yield failed("volumes", f"{claim['metadata']['name']} is {phase}", remedy)


def _rights(begin: Sequence[str]) -> Iterator[Finding]:
    accounts = kubectl.read("get", "serviceaccounts", "--selector", kubectl.SELECTOR, begin=begin)["items"]
    for account in accounts:
        about = account["metadata"]
        part = about.get("labels", {}).get(kubectl.COMPONENT, "")
        rights: Sequence[Sequence[str]] = RIGHTS.get(part, ())
        if part == "autoscaler":
            rights = _of_autoscaler(begin, rights)
        if rights:
            yield _right(begin, part, rights, f"system:serviceaccount:{about['namespace']}:{about['name']}")


def _of_autoscaler(begin: Sequence[str], rights: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Add what the chart allows by name only: the scale of its targets, and its lease. With KEDA it needs nothing."""
    wanted = list(rights)
    chosen = f"{kubectl.SELECTOR},{kubectl.COMPONENT}=autoscaler"
    for each in kubectl.read("get", "deployments", "--selector", chosen, begin=begin)["items"]:
        settings = {
            variable["name"]: variable.get("value", "")
            for container in each["spec"]["template"]["spec"]["containers"]
            for variable in container.get("env", [])
        }
        if settings.get("KIOSK_SCALER") == "keda":
            return []
        for target in json.loads(settings.get("KIOSK_TARGETS") or "[]"):
            name = f"{target.get('kind', 'Deployment').lower()}/{target['name']}"
            wanted.append(("patch", name, "--subresource=scale"))
        if lease := settings.get("KIOSK_KUBERNETES__LEASE"):
            wanted.append(("update", f"leases/{lease}"))
    return wanted


def _right(begin: Sequence[str], part: str, rights: Sequence[Sequence[str]], who: str) -> Finding:
    """Ask the API server what a service account may do."""
    missing = []
    for right in rights:
        done = kubectl.run("auth", "can-i", *right, f"--as={who}", begin=begin)
        answer = done.stdout.partition(" - ")[0].strip()  # a reason may follow
        if answer not in ("yes", "no"):
            why = kubectl.sentence(done.stderr.splitlines())
            told = f"whether the {part} may do its work cannot be asked: {why}"
            return warning("permissions", told, "Ask as somebody who may impersonate service accounts.")
        if answer == "no":
            missing.append(" ".join(right).replace(" --subresource=", "/"))
    if missing:
        remedy = "Install the chart again: its Role or RoleBinding was changed or removed."
        return failed("permissions", f"the {part} may not {', '.join(missing)}", remedy)
    return ok("permissions", f"the {part} may do all that it needs")


def _within(begin: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Ask the pods themselves: the console for Redis, storage, frontend and workers, the model servers to infer."""
    names: dict[str, str] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") == "Running":
            names.setdefault(pod["metadata"].get("labels", {}).get(kubectl.COMPONENT, ""), pod["metadata"]["name"])
    inferred = list(_models(begin, names["triton"])) if "triton" in names else []
    if "console" not in names:
        yield warning("console", "its pod does not run, so Redis and storage are not examined", "See the pods above.")
    else:
        done = kubectl.run("exec", names["console"], "--", "kiosk", "doctor", "--json", begin=begin)
        try:
            told = [Finding(**finding) for finding in json.loads(done.stdout)]
        except (ValueError, TypeError):
            sentence = kubectl.sentence(done.stderr.splitlines()) or "it told nothing"
            yield warning("console", f"cannot be asked: {sentence}", "Look at the pod, and at your right to `exec`.")
            told = []
        yield from (finding for finding in told if not (inferred and finding.part == _MODELS))
    yield from inferred


def _models(begin: Sequence[str], pod: str) -> Iterator[Finding]:
    done = kubectl.run("exec", pod, "--", "python", "-m", "services.triton.health", begin=begin)
    if done.returncode == 0:
        yield ok(_MODELS, f"those of {pod} predict")
    else:
        said = kubectl.sentence([*done.stderr.splitlines(), *done.stdout.splitlines()])
        yield failed(_MODELS, f"{pod}: {said}", "See `kiosk logs --kubernetes triton`.")
