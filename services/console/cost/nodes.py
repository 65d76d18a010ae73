"""What the nodes of a cluster cost in a span of time, by what kube-state-metrics told Prometheus.

The labels of nodes have changed their names over the years; old and present forms are read. A node counts from its
creation (``kube_node_created``) or the beginning of the span, whichever is later, to the last time it was seen.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from shared.costs.prices import Prices
from shared.errors import InvalidInput, Retry

_MACHINE = ("label_node_kubernetes_io_instance_type", "label_beta_kubernetes_io_instance_type")
_GPU = ("label_cloud_google_com_gke_accelerator",)
_SPOT = ("label_cloud_google_com_gke_spot", "label_cloud_google_com_gke_preemptible")
_CPU_CAPACITY = ("kube_node_status_capacity_cpu_cores", 'kube_node_status_capacity{resource="cpu"}')
_GPU_CAPACITY = ("kube_node_status_capacity_nvidia_gpu_cards", 'kube_node_status_capacity{resource="nvidia_com_gpu"}')
#: Of what the nodes sent to one another and outside, in bytes over the span.
_TRAFFIC = "sum(increase(container_network_transmit_bytes_total[{seconds:.0f}s]))"
#: s between two samples where a node was seen only once.
_INTERVAL = 30.0

Query = Callable[[str, Mapping[str, str]], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class Node:
    """One node's presence in the span, s since 1970."""

    name: str
    machine: str
    gpu: str
    gpus: int
    spot: bool
    begin: float
    end: float
    cpus: float = 1.0

    @property
    def seconds(self) -> float:
        """How long it was there."""
        return max(0.0, self.end - self.begin)

    def cost(self, prices: Prices) -> float:
        """Return what it cost."""
        return self.seconds / 3600 * prices.hour(self.machine, self.gpu, self.gpus, spot=self.spot)


@dataclass(frozen=True)
class Bill:
    """What a span of time cost, in the currency of the price list.

    Attributes:
        cpu_nodes, gpu_nodes, network: money.
        cpu_seconds: paid seconds of the processors of the CPU nodes, all together.
        gpu_seconds: paid seconds of all GPUs together.
    """

    cpu_nodes: float
    gpu_nodes: float
    network: float
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    @property
    def total(self) -> float:
        """Of everything."""
        return self.cpu_nodes + self.gpu_nodes + self.network


def bill(nodes: Iterable[Node], prices: Prices, sent_bytes: float = 0.0) -> Bill:
    """Add up what nodes and traffic cost; a node with a GPU is a GPU node."""
    nodes = list(nodes)
    return Bill(
        sum(node.cost(prices) for node in nodes if not node.gpu),
        sum(node.cost(prices) for node in nodes if node.gpu),
        sent_bytes / 1e9 * prices.of("network", "zone") if sent_bytes else 0.0,
        cpu_seconds=sum(node.seconds * node.cpus for node in nodes if not node.gpu),
        gpu_seconds=sum(node.seconds * node.gpus for node in nodes if node.gpu),
    )


async def read_bill(url: str, begin: float, end: float, prices: Prices) -> Bill:
    """Return what a cluster cost from ``begin`` to ``end`` (s since 1970).

    Raises:
        Retry: Prometheus cannot be reached, or saw no nodes in that time.
        InvalidInput: a node's machine or GPU has no price, or its labels are not told.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:

        async def query(path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
            return await _ask(http, f"{url.rstrip('/')}/api/v1/{path}", parameters)

        nodes = await read_nodes(query, begin, end)
        seconds = max(1.0, end - begin)
        traffic = await query("query", {"query": _TRAFFIC.format(seconds=seconds), "time": f"{end}"})
    return bill(nodes, prices, sum(float(series["value"][1]) for series in traffic))


async def read_nodes(query: Query, begin: float, end: float) -> list[Node]:
    """Return the nodes that were there in a span."""
    # The samples themselves, by a range selector: a range query would show each for five minutes longer.
    span = f"[{max(1.0, end - begin):.0f}s]"
    labels = await query("query", {"query": f"kube_node_labels{span}", "time": f"{end}"})
    infos = await query("query", {"query": f"kube_node_info{span}", "time": f"{end}"})
    created = _values(await query("query", {"query": f"kube_node_created{span}", "time": f"{end}"}))
    gpus: dict[str, float] = {}
    cpus: dict[str, float] = {}
    for names, found in ((_GPU_CAPACITY, gpus), (_CPU_CAPACITY, cpus)):
        for name in names:
            found |= _values(await query("query", {"query": f"{name}{span}", "time": f"{end}"}))
    if not labels and not infos:
        raise Retry("Prometheus saw no node in that time: is it the one that scrapes kube-state-metrics?")
    known = {series["metric"].get("node", ""): series["metric"] for series in labels}
    unlabelled = sorted({series["metric"].get("node", "") for series in infos} - known.keys())
    nodes: dict[str, Node] = {}
    for series in labels:
        node = replace(_node(series, begin, end, created, gpus), cpus=cpus.get(series["metric"].get("node", ""), 1.0))
        earlier = nodes.get(node.name)  # a series begins anew when any of its labels changes
        nodes[node.name] = node if earlier is None else _joined(earlier, node)
    if unlabelled:
        raise InvalidInput(_no_labels(unlabelled[0]))
    return list(nodes.values())


def _joined(one: Node, other: Node) -> Node:
    first, last = sorted((one, other), key=lambda node: node.begin)
    return replace(last, begin=first.begin, end=max(first.end, last.end))


def _node(
    series: dict[str, Any],
    begin: float,
    end: float,
    created: Mapping[str, float],
    gpus: Mapping[str, float],
) -> Node:
    metric, times = series["metric"], [float(point[0]) for point in series["values"]]
    name = metric.get("node", "")
    machine = _first(metric, _MACHINE)
    if not machine:
        raise InvalidInput(_no_labels(name))
    gpu = _first(metric, _GPU)
    interval = statistics.median(b - a for a, b in itertools.pairwise(times)) if len(times) > 1 else _INTERVAL
    # It came and went at some time between two looks: half an interval is the best guess.
    last = end if end - times[-1] < 1.5 * interval else times[-1] + interval / 2
    first = begin if times[0] - begin < 1.5 * interval else times[0] - interval / 2
    born = created.get(name)
    if born is not None:
        first = max(begin, born)
    spot = any(metric.get(label) == "true" for label in _SPOT)
    return Node(name, machine, gpu, int(gpus.get(name, 1 if gpu else 0)), spot, first, min(last, end))


def _no_labels(node: str) -> str:
    return (
        f"Prometheus does not know the machine type of the node {node!r}: kube-state-metrics must be started with "
        "--metric-labels-allowlist=nodes=[node.kubernetes.io/instance-type,cloud.google.com/gke-accelerator,"
        "cloud.google.com/gke-spot]."
    )


def _first(metric: Mapping[str, str], labels: Iterable[str]) -> str:
    return next((metric[label] for label in labels if metric.get(label)), "")


def _values(series: list[dict[str, Any]]) -> dict[str, float]:
    return {one["metric"].get("node", ""): float(one["values"][-1][1]) for one in series if one["values"]}


async def _ask(http: aiohttp.ClientSession, url: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    try:
        async with http.get(url, params=parameters) as answer:
            document = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Retry(f"Prometheus at {url} cannot be asked: {str(error) or type(error).__name__}.") from error
    if document.get("status") != "success":
        raise Retry(f"Prometheus refused the question: {document.get('error', 'it gave no reason')}.")
    return list(document["data"]["result"])
