"""``kiosk status``: what runs, what waits, who works, who spent what, and what the autoscaler decided and why."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from typing import Any

from services.console import output, reach, spend
from services.console.up import probes
from services.console.up.place import Running
from shared.jobs import JobStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk status`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(options: argparse.Namespace) -> int:
    """Print the state of the suite; the exit code is 1 while a part of it does not work."""
    running = reach.suite(options)
    os.environ.update({**running.costs, **os.environ})  # as the suite was told, unless this command is told otherwise
    seen = asyncio.run(_look(running))
    if options.json:
        output.say(json.dumps(seen, indent=2))
    else:
        _show(seen)
    return 0 if all(part["state"] == "ready" for part in seen["parts"]) else 1


async def _look(running: Running) -> dict[str, Any]:
    async with contextlib.aclosing(reach.store(running)) as store:
        await store.ping()
        kinds = sorted({*await store.kinds(), *await store.types()})
        queues = await store.queues(kinds)
        workers = await store.workers()
        return {
            "url": running.url,
            "parts": await _parts(running, store),
            "queues": [vars(queue) for queue in queues.values()],
            "workers": [vars(worker) for worker in workers],
            "models": await store.models(),
            "spend": await spend.read(store),
            "decisions": [json.loads(text) for text in (await store.decisions()).values()],
        }


async def _parts(running: Running, store: JobStore) -> list[dict[str, str]]:
    """Ask each part that listens on this machine whether it is ready."""
    asked = {}
    for name, ports in running.ports.items():
        if "health" in ports:
            asked[name] = probes.http(ports["health"])
        elif name == "triton":
            asked[name] = probes.triton(ports["http"], sorted(await store.models()))
    answers = await asyncio.gather(*(probe() for probe in asked.values()))
    found = [_part(name, problem) for name, problem in zip(asked, answers, strict=True)]
    return [_part("redis", ""), *found]


def _part(name: str, problem: str) -> dict[str, str]:
    return {"part": name, "state": "away" if problem else "ready", "problem": problem}


def _show(seen: dict[str, Any]) -> None:
    if seen["url"]:
        output.say(f"CellKiosk at {seen['url']}\n")
    output.table("Parts", ("part", "state", ""), [tuple(part.values()) for part in seen["parts"]])
    output.say()
    output.table(
        "Queues",
        ("job type", "waiting", "of owners", "running", "delayed", "dead", "oldest waits"),
        [
            (
                *(q[count] for count in ("type", "waiting", "owners", "running", "delayed", "dead")),
                output.duration(q["oldest_age"] or None),
            )
            for q in seen["queues"]
        ],
    )
    output.say()
    output.table(
        "Workers",
        ("worker", "state", "holds", "ended", "version"),
        [
            (w["id"], _state(w), w["held"], w["facts"].get("ended", "-"), w["facts"].get("version", ""))
            for w in seen["workers"]
        ],
    )
    spend.show(seen["spend"])
    for decision in seen["decisions"]:
        output.say(
            f"\n{decision['target']}: {decision['replicas']} of {decision['wanted']} wanted. {decision['reason']}"
        )
        for problem in decision.get("problems", []):
            output.say(f"  {problem}")


def _state(worker: dict[str, Any]) -> str:
    if not worker["alive"]:
        return f"silent for {output.duration(worker['absent'])}"
    return "retiring" if worker["retiring"] else "ready"
