"""``kiosk audit``: read the whole job store and report whatever breaks a promise of the data model."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from dataclasses import asdict

from services.console import output, reach
from shared.jobs.audit import Finding, audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk audit`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("--repair", action="store_true", help="put right what can be put right")
    parser.add_argument("--json", action="store_true", help="print JSON, one finding a line")


def main(options: argparse.Namespace) -> int:
    """Print what is wrong; the exit code is 1 while anything is left."""
    findings = asyncio.run(_audit(options))
    for finding in findings:
        if options.json:
            output.say(json.dumps(asdict(finding)))
        else:
            mended = " (repaired)" if finding.repaired else ""
            output.say(f"{finding.code}  {finding.subject}: {finding.sentence}{mended}")
    left = sum(not finding.repaired for finding in findings)
    if not options.json:
        output.say("Nothing is wrong." if not findings else f"{len(findings)} findings, {left} of them not repaired.")
    return 1 if left else 0


async def _audit(options: argparse.Namespace) -> list[Finding]:
    async with contextlib.aclosing(reach.store(reach.suite(options))) as store:
        return await audit(store, repair=options.repair)
