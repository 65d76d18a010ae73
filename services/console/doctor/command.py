"""The command ``kiosk doctor``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from dataclasses import asdict

from services.console import kubectl, output, reach
from services.console.doctor import checks, cluster
from services.console.doctor.findings import Finding, failed
from shared.errors import Misconfigured
from shared.settings import ServiceSettings, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk doctor`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--kubernetes", action="store_true", help="of a release in a cluster (needs kubectl)")
    parser.add_argument("--namespace", default="", help="Kubernetes namespace")
    parser.add_argument("--context", default="", help="kubeconfig context")


def main(options: argparse.Namespace) -> int:
    """Examine the suite; the exit code is 1 if something does not work."""
    if options.kubernetes:
        findings = cluster.examine(kubectl.words(options.namespace, options.context))
    else:
        findings = asyncio.run(_examine(options))
    if options.json:
        output.say(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        output.table("Findings", ("", "", ""), [(f.state, f.part, f.sentence) for f in findings])
        remedies = [f for f in findings if f.remedy]
        for finding in remedies:
            output.say(f"\n{finding.part}: {finding.sentence}\n  → {finding.remedy}")
    return 1 if any(finding.state == "failed" for finding in findings) else 0


async def _examine(options: argparse.Namespace) -> list[Finding]:
    found = checks.machine()
    try:
        running = reach.suite(options)
    except Misconfigured as error:
        return [*found, *checks.room(reach.place(options).folder.parent), failed("suite", str(error), "kiosk up")]
    async with contextlib.aclosing(reach.store(running)) as store:
        parts = await asyncio.gather(
            checks.redis(store, running),
            checks.storage(running.storage_url, load(ServiceSettings).storage),
            checks.models(running),
            checks.frontend(running.url),
            checks.services(running),
            checks.workers(store),
        )
    return found + [finding for part in parts for finding in part]
