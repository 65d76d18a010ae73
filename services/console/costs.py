"""``kiosk costs``: a cluster's bill of the last hours, divided among jobs, owners and batches."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import os
import time
from dataclasses import replace

from services.console import output, reach
from services.console.cost.nodes import Bill, read_bill
from services.console.cost.shares import Division, JobUse, divide, use_of
from shared.costs import Use
from shared.costs.prices import load
from shared.errors import InvalidInput, Misconfigured
from shared.jobs import Job, JobStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk costs`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("--hours", type=float, default=24.0, help="how far back (default %(default)g)")
    parser.add_argument("--by", choices=("owner", "batch", "job"), default="owner", help="whose costs are summed")
    parser.add_argument("--prometheus", help="address of the cluster's Prometheus (KIOSK_PROMETHEUS)")
    parser.add_argument("--machine", help="MACHINE[,GPU] that runs all the time, where there is no Prometheus")
    parser.add_argument("--spot", action="store_true", help="price --machine as a spot machine")
    parser.add_argument("--prices", default="", help="price list: a date or a file (KIOSK_PRICES)")


def main(options: argparse.Namespace) -> int:
    """Print who caused which costs, and what was paid for nothing."""
    if not options.hours > 0:
        raise InvalidInput(f"--hours is {options.hours:g}; it must be more than 0.")
    division = asyncio.run(_divided(options))
    rows = sorted(_sums(division, options.by).items(), key=lambda item: -item[1])
    shown = [(name, f"{money:.6f}", _percent(money, division.total)) for name, money in rows]
    shown += [("idle", f"{division.idle:.6f}", _percent(division.idle, division.total))]
    output.table(f"Costs of the last {options.hours:g} h", (options.by, "cost", "share"), shown)
    output.say(f"\nBill: {division.total:.6f}")
    if warning := load(options.prices).warning():
        output.say(warning)
    return 0


def _sums(division: Division, by: str) -> dict[str, float]:
    if by == "job":
        return {share.of.job: share.total for share in division.shares}
    return division.by(by)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


async def _divided(options: argparse.Namespace) -> Division:
    end = time.time()
    begin = end - options.hours * 3600
    prices = load(options.prices)
    prometheus = options.prometheus or os.environ.get("KIOSK_PROMETHEUS", "")
    if prometheus:
        bill = await read_bill(prometheus, begin, end, prices)
    elif options.machine:
        machine, _, gpu = options.machine.partition(",")
        money = options.hours * prices.hour(machine, gpu, spot=options.spot)
        seconds = options.hours * 3600
        bill = Bill(0.0, money, 0.0, gpu_seconds=seconds) if gpu else Bill(money, 0.0, 0.0, cpu_seconds=seconds)
    else:
        raise Misconfigured("Nobody says what this runs on: name --prometheus or --machine.")
    async with contextlib.aclosing(reach.store(reach.suite(options))) as store:
        uses = await _uses(store, begin)
    if not bill.gpu_nodes:  # the models ran on the CPUs, and their time is paid there
        uses = [replace(each, use=_on_cpu(each.use)) for each in uses]
    elif not bill.cpu_nodes:  # one machine with a GPU does all of it, and is paid by the GPU's hour
        uses = [replace(each, use=replace(each.use, cpu_seconds=0.0)) for each in uses]
    return divide(bill, uses, gpu_seconds=bill.gpu_seconds, cpu_seconds=bill.cpu_seconds)


def _on_cpu(use: Use) -> Use:
    return replace(use, gpu_seconds=0.0, cpu_seconds=use.cpu_seconds + use.gpu_seconds)


async def _uses(store: JobStore, begin: float) -> list[JobUse]:
    """Return what the root jobs used that ended since a time; parts are counted in their parents."""
    names = [name async for name in store.all_ids() if "." not in name]
    found: list[JobUse] = []
    for start in range(0, len(names), 500):
        jobs = await store.get_many(names[start : start + 500])
        found += [use_of(job) for job in jobs if job is not None and _ended_since(job, begin)]
    return found


def _ended_since(job: Job, begin: float) -> bool:
    return job.final and _time(job.fields.get("finished_at", "")) >= begin


def _time(text: str) -> float:
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
