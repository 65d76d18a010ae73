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
from shared.lifecycle import ended

#: What can be forwarded: the part of the chart, the port it is best known by, and what it is.
TARGETS = {
    "frontend": (8080, "the page and the API"),
    "grafana": (3000, "dashboards"),
    "prometheus": (9090, "metrics"),
    "redis": (6379, "the job store"),
}
#: s between two tries.
_PAUSE = 2.0


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
    begin = kubectl.words(options.namespace, options.context)
    found = services(begin)
    missing = sorted(set(options.targets) - found.keys())
    if missing:
        raise InvalidInput(f"The cluster has no service for {missing[0]!r} in this namespace.")
    chosen = {name: found[name] for name in options.targets or found}
    if not chosen:
        raise Retry("The cluster has none of the chart's services in this namespace; name it by --namespace.")
    asyncio.run(_forward(chosen, begin))
    return 0


def services(begin: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return the services that can be forwarded: target to name and port."""
    found: dict[str, tuple[str, int]] = {}
    for item in kubectl.read("get", "services", begin=begin)["items"]:
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
    tasks = []
    for target, (service, port) in chosen.items():
        local = ports.next_free(TARGETS[target][0], "127.0.0.1", taken)
        taken.add(local)
        command = [*begin, "port-forward", f"service/{service}", f"{local}:{port}"]
        tasks.append(asyncio.create_task(_keep(command, target, local), name=target))
    output.say(f"Connecting to {', '.join(chosen)}; Ctrl-C ends this.")
    await stopping.wait()
    await ended(*tasks)


async def _keep(command: Sequence[str], target: str, local: int) -> None:
    """Forward, and again whenever the connection ends: pods come and go. What is said once is not said again."""
    told = ""
    while True:
        connected, reason = await _once(command, target, local)
        reason = reason or "the connection ended"
        if connected or reason != told:
            output.say(f"{target}: {reason}; trying again every {_PAUSE:g} s")
        told = reason
        await asyncio.sleep(_PAUSE)


async def _once(command: Sequence[str], target: str, local: int) -> tuple[bool, str]:
    """Run kubectl until it ends; return whether it was connected, and its last words."""
    scheme = "redis" if target == "redis" else "http"
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    words = asyncio.create_task(process.stderr.read())
    try:
        connected = (await process.stdout.readline()).startswith(b"Forwarding from")
        if connected:
            output.say(f"{target:<22} {scheme}://127.0.0.1:{local}  {TARGETS[target][1]}")
        while await process.stdout.readline():  # one for each connection: to be read, or kubectl would stand still
            pass
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        lines = (await words).decode(errors="replace").strip().splitlines()
    return connected, kubectl.sentence(lines)
