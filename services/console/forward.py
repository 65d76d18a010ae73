"""``kiosk forward``: the cluster's API, dashboards and metrics on local ports, without a VPN."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence

from services.console import kubectl, output
from services.console.up import ports
from shared.errors import InvalidInput, Retry

#: What can be forwarded: the part of the chart, the port it is best known by, and what it is.
TARGETS = {
    "frontend": (8080, "the page and the API"),
    "grafana": (3000, "dashboards"),
    "prometheus": (9090, "metrics"),
    "opensearch-dashboards": (5601, "logs"),
    "redis": (6379, "the job store"),
}
_PAUSE = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk forward`` can be told."""
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all that are there)")
    parser.add_argument("--namespace", default="", help="Kubernetes namespace")
    parser.add_argument("--context", default="", help="kubeconfig context")


def main(options: argparse.Namespace) -> int:
    """Forward until told to stop."""
    unknown = sorted(set(options.targets) - TARGETS.keys())
    if unknown:
        raise InvalidInput(f"{unknown[0]!r} cannot be forwarded; these can: {', '.join(TARGETS)}.")
    found = services(options.namespace, options.context)
    missing = sorted(set(options.targets) - found.keys())
    if missing:
        raise InvalidInput(f"The cluster has no service for {missing[0]!r} in this namespace.")
    chosen = {name: found[name] for name in options.targets or found}
    if not chosen:
        raise Retry("The cluster has none of the chart's services in this namespace; name it by --namespace.")
    asyncio.run(_forward(chosen, kubectl.words(options.namespace, options.context)))
    return 0


def services(namespace: str, context: str) -> dict[str, tuple[str, int]]:
    """Return the services that can be forwarded: target to name and port."""
    found: dict[str, tuple[str, int]] = {}
    for item in kubectl.read("get", "services", namespace=namespace, context=context)["items"]:
        name, offered = item["metadata"]["name"], item["spec"].get("ports") or []
        component = item["metadata"].get("labels", {}).get(kubectl.COMPONENT, "")
        target = next((t for t in TARGETS if component == t or name == t or name.endswith(f"-{t}")), None)
        if target is None or not offered:
            continue
        usual = TARGETS[target][0]
        chosen = next((p["port"] for p in offered if p["port"] == usual), offered[0]["port"])
        found.setdefault(target, (name, int(chosen)))
    return found


async def _forward(chosen: dict[str, tuple[str, int]], begin: Sequence[str]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    taken: set[int] = set()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for target, (service, port) in chosen.items():
            local = ports.next_free(TARGETS[target][0], "127.0.0.1", taken)
            output.say(f"{target:<22} http://127.0.0.1:{local}  {TARGETS[target][1]}")
            command = [*begin, "port-forward", f"service/{service}", f"{local}:{port}"]
            tasks.append(group.create_task(_keep(command, target)))
        output.say("Ctrl-C ends this.")
        await stopping.wait()
        for task in tasks:
            task.cancel()


async def _keep(command: Sequence[str], target: str) -> None:
    """Forward, and again whenever the connection ends: pods come and go."""
    while True:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _out, told = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
        reason = told.decode(errors="replace").strip().splitlines()
        output.say(f"{target}: {reason[-1] if reason else 'the connection ended'}; connecting again")
        await asyncio.sleep(_PAUSE)
