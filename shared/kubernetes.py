"""A thin asynchronous client of the Kubernetes API: JSON in, JSON out, and pods that are always up to date.

Configuration, authentication and token rotation are kubernetes-asyncio's; its thousands of model classes are not used,
since turning each watched pod into one costs more than all decisions together. It is imported by `connect` only.

Errors by meaning: what is away, throttled, refused or in conflict is a `Retry` (an administrator may mend it while we
run); what does not exist is `NotFound`. An error is never an empty list.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import structlog

from shared.errors import Misconfigured, NotFound, Retry

log = structlog.get_logger(__name__)

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
#: Containers that wait for one of these do not start by waiting longer.
_STUCK = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_CALL_TIMEOUT = 10.0
_WATCH_SECONDS = 50
_RESYNC_SECONDS = 600.0


class Conflict(Retry):
    """Somebody else changed the object meanwhile: read it again and decide anew."""


class Gone(Retry):
    """The version to continue from is no longer known to the server (410): list anew."""


class Refused(Retry):
    """The API server does not allow this (401, 403): the Role lacks something, or the token has run out."""


class Cluster:
    """One namespace of a cluster.

    Attributes:
        namespace: that calls are made in.
        calls: number of calls made so far, watches among them.
    """

    def __init__(
        self, client: Any, namespace: str, rate: float, counted: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        """Use a connected ApiClient; at most ``rate`` calls a second, with bursts of five times as many.

        ``counted`` is told the verb and the outcome of each call.
        """
        self.namespace = namespace
        self.calls = 0
        self._client = client
        self._bucket = _Bucket(rate, 5 * rate)
        self._quiet_until = 0.0
        self._counted = counted

    async def get(self, path: str, **query: str | int) -> Json:
        """GET a path."""
        return await self._call("GET", path, query)

    async def post(self, path: str, body: Json) -> Json:
        """POST an object."""
        return await self._call("POST", path, {}, body)

    async def put(self, path: str, body: Json) -> Json:
        """PUT an object."""
        return await self._call("PUT", path, {}, body)

    async def patch(self, path: str, body: Json | list[Json]) -> Json:
        """PATCH: an object is a JSON merge patch, a list a JSON patch; a test in it that fails is a `Conflict`."""
        return await self._call("PATCH", path, {}, body, JSON_PATCH if isinstance(body, list) else MERGE_PATCH)

    async def delete(self, path: str) -> Json:
        """DELETE a path."""
        return await self._call("DELETE", path, {})

    def pods(self) -> str:
        """Return the path of the pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def list_all(self, path: str, **query: str | int) -> tuple[list[Json], str]:
        """Return all items of a collection, read in pages, and the version to watch from."""
        items: list[Json] = []
        page = await self.get(path, limit=500, **query)
        items += page.get("items") or []
        while token := page["metadata"].get("continue"):
            page = await self.get(path, limit=500, **query, **{"continue": token})
            items += page.get("items") or []
        return items, page["metadata"]["resourceVersion"]

    async def watch(self, path: str, version: str, seconds: int = _WATCH_SECONDS) -> AsyncIterator[Json]:
        """Yield the events of a collection after a version, until the server ends the watch after ``seconds``.

        The first thing yielded is an event of type CONNECTED, as soon as the server has accepted the watch.

        Raises:
            Gone: the version is too old.
        """
        query: dict[str, str | int] = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": seconds}
        query |= {"resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CALL_TIMEOUT, sock_read=seconds + _CALL_TIMEOUT)
        try:
            # Accepted at once or not at all: an API server that has lost its etcd lets a watch wait.
            async with asyncio.timeout(_CALL_TIMEOUT):
                response = await self._send("WATCH", path, query, None, None, timeout)
        except TimeoutError as error:
            raise _away(error) from error
        try:
            async with response:
                yield {"type": "CONNECTED"}
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _meaning(int(event["object"].get("code", 500)), event["object"], "WATCH", path)
                    yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _away(error) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str | int],
        body: Json | list[Json] | None = None,
        kind: str = "application/json",
    ) -> Json:
        timeout = aiohttp.ClientTimeout(total=_CALL_TIMEOUT)
        response = await self._send(verb, path, query, body, kind, timeout)
        try:
            async with response:
                answer: Json = json.loads(await response.read())
                return answer
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _away(error) from error

    async def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str | int],
        body: Json | list[Json] | None,
        kind: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """Send a request; return the response if it is a success, with its body still to be read."""
        await self._may_call()
        self.calls += 1
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if kind else {})
        url = f"{path}?{urlencode(query)}" if query else path
        try:
            response: aiohttp.ClientResponse = await self._client.call_api(
                url,
                "GET" if verb == "WATCH" else verb,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._counted(verb, "away")
            raise _away(error) from error
        self._counted(verb, str(response.status))
        if response.status < 300:
            return response
        raise await self._error(response, verb, path)

    async def _error(self, response: aiohttp.ClientResponse, verb: str, path: str) -> Exception:
        try:
            async with response:
                status = json.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            status = {}
        after = response.headers.get("Retry-After", "")
        if response.status == 429 or (response.status >= 500 and after):
            pause = min(float(after), 60.0) if after.isdigit() else 1.0
            self._quiet_until = max(self._quiet_until, time.monotonic() + pause)
        return _meaning(response.status, status if isinstance(status, dict) else {}, verb, path)

    async def _may_call(self) -> None:
        if (quiet := self._quiet_until - time.monotonic()) > 0:
            raise Retry("The Kubernetes API asks for fewer calls.", after=quiet)
        await self._bucket.take()


async def connect(
    kubeconfig: str = "",
    namespace: str = "",
    *,
    rate: float = 10.0,
    counted: Callable[[str, str], None] = lambda *_: None,
) -> Cluster:
    """Return a client by a kubeconfig, or by the service account of this pod.

    Raises:
        Misconfigured: neither is usable.
    """
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client import ApiClient, Configuration

    configuration = Configuration()
    try:
        if kubeconfig:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            _contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
            found = active.get("context", {}).get("namespace", "")
        else:
            config.load_incluster_config(client_configuration=configuration)
            found = await asyncio.to_thread(_read_text, _NAMESPACE_FILE)
    except (config.ConfigException, OSError, KeyError, ValueError) as error:
        where = f"the kubeconfig {kubeconfig}" if kubeconfig else "this pod's service account"
        raise Misconfigured(f"No Kubernetes API can be reached by {where}: {error}") from error
    return Cluster(ApiClient(configuration), namespace or found or "default", rate, counted)


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return file.read().strip()


@dataclass(frozen=True)
class Pod:
    """What matters of a pod.

    Attributes:
        name: its name, which is its worker's.
        labels: for selectors.
        ready: its containers work.
        stopping: it was told to end.
        ended: all its containers have ended for good.
        problem: why it cannot start, in words; empty for none.
        ip: its address; empty before it has one.
        created: s since 1970.
        deletion_cost: whether it bears that annotation.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool = False
    stopping: bool = False
    ended: bool = False
    problem: str = ""
    ip: str = ""
    created: float = 0.0
    deletion_cost: bool = False


DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def pod_of(raw: Json) -> Pod:
    """Return what matters of a pod as the API tells it."""
    meta, status = raw["metadata"], raw.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    return Pod(
        name=meta["name"],
        labels=meta.get("labels") or {},
        ready=conditions.get("Ready", {}).get("status") == "True",
        stopping="deletionTimestamp" in meta,
        ended=status.get("phase") in ("Succeeded", "Failed"),
        problem=_problem(conditions, status),
        ip=status.get("podIP", ""),
        created=seconds_of(meta["creationTimestamp"]),
        deletion_cost=DELETION_COST in (meta.get("annotations") or {}),
    )


def seconds_of(stamp: str) -> float:
    """Return a time of the API as s since 1970."""
    return dt.datetime.fromisoformat(stamp).timestamp()


def _problem(conditions: Mapping[str, Json], status: Json) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return f"Unschedulable: {scheduled.get('message', '').rstrip('.')}"
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return f"{waiting['reason']}: {waiting.get('message', '').rstrip('.')}".removesuffix(": ")
    return ""


class Pods:
    """The pods of a namespace, kept up to date by a watch.

    Run `run` as a background task. What it knows is only given out while it is current: `all` raises `Retry` before
    the first list, while the watch is broken, and when nothing was heard for too long.
    """

    def __init__(self, cluster: Cluster, changed: Callable[[], None], *, stale_after: float = 90.0) -> None:
        """Prepare; ``changed`` is called after each change and each list."""
        self._cluster = cluster
        self._changed = changed
        self._stale_after = stale_after
        self._pods: dict[str, Pod] = {}
        self._trouble = "the pods have not been listed yet"
        self._heard = -float("inf")
        self.lists = 0

    def all(self) -> Mapping[str, Pod]:
        """Return the pods by name.

        Raises:
            Retry: they are not known for certain at this moment.
        """
        if self._trouble:
            raise Retry(f"The pods cannot be watched: {self._trouble}")
        if time.monotonic() - self._heard > self._stale_after:
            raise Retry(f"Nothing was heard of the pods for {self._stale_after:g} s.")
        return self._pods

    async def run(self) -> None:
        """List and watch until cancelled: anew after every trouble, and from time to time in any case."""
        pause = 0.2
        while True:
            try:
                version = await self._list()
                pause = 0.2
                await self._follow(version)
            except Gone as error:
                log.info("watch-expired", error=str(error))
            except (Retry, NotFound) as error:
                if not self._trouble:
                    log.warning("watch-lost", error=str(error))
                self._trouble = str(error)
                self._changed()
                # Whoever refuses or throttles names a longer pause; what is only away is tried again soon.
                asked = error.after if isinstance(error, Retry) and (error.after or 0) > 1 else 0
                await asyncio.sleep(max(asked or 0, pause * random.uniform(0.5, 1.5)))
                pause = min(2 * pause, 10.0)

    async def _list(self) -> str:
        items, version = await self._cluster.list_all(self._cluster.pods())
        self._pods = {pod.name: pod for pod in map(pod_of, items)}
        self.lists += 1
        self._heard = time.monotonic()
        self._trouble = ""
        self._changed()
        return version

    async def _follow(self, version: str) -> None:
        until = time.monotonic() + _RESYNC_SECONDS
        while time.monotonic() < until:
            async for event in self._cluster.watch(self._cluster.pods(), version):
                self._heard = time.monotonic()
                if event["type"] == "CONNECTED":
                    continue
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event)

    def _take(self, event: Json) -> None:
        pod = pod_of(event["object"])
        if event["type"] == "DELETED":
            self._pods.pop(pod.name, None)
        elif self._pods.get(pod.name) == pod:
            return  # a change of something that does not matter
        else:
            self._pods[pod.name] = pod
        self._changed()


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector in its text form, as a scale's status has it, selects labels."""
    return all(_met(term, labels) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _met(term: str, labels: Mapping[str, str]) -> bool:
    if among := re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", term):
        key, verb, values = among.groups()
        return (labels.get(key) in [value.strip() for value in values.split(",")]) == (verb == "in")
    if equal := re.fullmatch(r"\s*([^=!\s]+)\s*(==|=|!=)\s*(\S*)\s*", term):
        key, verb, value = equal.groups()
        return (labels.get(key) == value) == (verb != "!=")
    key = term.strip()
    return key[1:] not in labels if key.startswith("!") else key in labels


class _Bucket:
    """A token bucket: ``rate`` a second in the long run, ``burst`` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, time.monotonic()

    async def take(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


def _away(error: BaseException) -> Retry:
    said = str(error) or type(error).__name__
    return Retry(f"The Kubernetes API cannot be reached right now ({said}).", after=1.0)


def _meaning(code: int, status: Json, verb: str, path: str) -> Exception:
    message = str(status.get("message", "")).rstrip(".") or f"status {code}"
    if code == 404:
        return NotFound(f"Kubernetes has no {path}.")
    if code == 409 or (code == 422 and verb == "PATCH"):
        return Conflict(f"Something was changed meanwhile: {message}.", after=0.0)
    if code == 410:
        return Gone(f"The watch is too far behind: {message}.", after=0.0)
    if code in (401, 403):
        return Refused(f"The Kubernetes API refuses to {verb} {path}: {message}.", after=5.0)
    if code == 429:
        return Retry("The Kubernetes API asks for fewer calls.", after=1.0)
    return Retry(f"The Kubernetes API cannot do this right now: {message}.", after=1.0)
