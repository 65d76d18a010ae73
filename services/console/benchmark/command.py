"""The command ``kiosk benchmark``, which is also the program of the chart's benchmark deployment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from services.console import output, reach
from services.console.benchmark import report
from services.console.benchmark.document import document, name_of
from services.console.benchmark.drive import Run, drive
from services.console.benchmark.plan import Plan, of
from services.console.cost.nodes import Bill, read_bill
from shared.costs.prices import Prices, load
from shared.errors import InvalidInput, KioskError, NotFound
from shared.settings import ServiceSettings
from shared.settings import load as load_settings
from shared.storage import Storage, open_storage, read_all

#: Where results lie in the bucket.
FOLDER = "benchmarks/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk benchmark`` can be told; ``kiosk benchmark report FILES`` is a word of its own."""
    reach.add_arguments(parser)
    parser.add_argument("files", nargs="*", help="images or archives; `report FILES…` or `report FOLDER` draws results")
    parser.add_argument("--type", help="job type (JOB_TYPE; default segmentation)")
    parser.add_argument("--model", help="model, or model:version (MODEL; default that of the job type)")
    parser.add_argument("--count", help="number of jobs (COUNT; default one for each file)")
    parser.add_argument("--start-delay", help="seconds between two submissions (START_DELAY; default 0)")
    parser.add_argument("--url", help="address of the service (KIOSK_URL; default the suite on this machine)")
    parser.add_argument("--out", type=Path, help="folder for the result file and the jobs' results, or the report")
    parser.add_argument("--gpus", type=int, help="GPUs that the cluster has, for the name of the result")
    parser.add_argument("--machine", help="MACHINE[,GPU] whose price counts where no Prometheus can be asked")
    parser.add_argument("--spot", action="store_true", help="price --machine as a spot machine")
    parser.add_argument("--prices", default="", help="price list: a date or a file (KIOSK_PRICES)")
    parser.add_argument("--prometheus", help="address of the cluster's Prometheus (KIOSK_PROMETHEUS)")
    parser.add_argument("--in-bucket", action="store_true", help="the files lie under uploads/ in the bucket already")
    parser.add_argument(
        "--stay", action="store_true", help="for a deployment: run once for this pod, then wait silently for its end"
    )


def main(options: argparse.Namespace) -> int:
    """Run a benchmark, or draw results; the exit code is 1 if a job failed."""
    if options.files and options.files[0] == "report":
        return report.main([Path(name) for name in options.files[1:]], options.out or Path("report"))
    plan = of(options)
    prices = load(options.prices)
    _check_prices(plan, prices, spot=options.spot)
    return asyncio.run(_main(options, plan, prices))


def _check_prices(plan: Plan, prices: Prices, *, spot: bool) -> None:
    """Refuse a machine without a price before the run, not after it."""
    if plan.machine:
        _price_of(plan, prices, spot=spot)


async def _main(options: argparse.Namespace, plan: Plan, prices: Prices) -> int:
    stopping = asyncio.Event()
    if options.stay:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with _opened(options) as storage:
        marker = f"{FOLDER}done/{load_settings(ServiceSettings).name}"
        if options.stay and storage is not None and await _there(storage, marker):
            output.say("This pod's benchmark has been done; its result is in the bucket.")
            code = 0
        else:
            code = await _run(options, plan, prices, storage, marker if options.stay else "")
    if options.stay:
        await stopping.wait()
    return code


async def _run(options: argparse.Namespace, plan: Plan, prices: Prices, storage: Storage | None, marker: str) -> int:
    url = reach.url(options)
    output.say(f"{plan.count} jobs of {plan.job_type} to {url}")
    # A deployment has nobody who would look at them, and no room for thousands.
    results = options.out / "results" if options.out and not options.stay else None
    with _Progress(plan.count) as progress:
        run = await drive(plan, url, progress, results, os.environ.get("KIOSK_API_KEY", ""))
    bill = await _bill(options, plan, run, prices)
    made = document(plan, run, bill, prices.name)
    _show(made)
    if bill is not None and (warning := prices.warning()):
        sys.stderr.write(f"{warning}\n")
    name = name_of(plan)
    path = (options.out or Path()) / name
    await asyncio.to_thread(_write, path, made)
    if storage is not None:
        began = time.monotonic()
        key = FOLDER + name
        await storage.upload(path, key, "application/json")
        if marker:
            await storage.put(marker, key.encode(), "text/plain")
        bucket = storage.url(key).removesuffix(f"/{key}")
        output.say(f"Uploaded {path} to {bucket} in {time.monotonic() - began:.3f} seconds.")
    else:
        output.say(f"Wrote {path}; no bucket is set (KIOSK_STORAGE__URL), so it was not uploaded.")
    return 0 if made["statuses"]["done"] == plan.count else 1


async def _bill(options: argparse.Namespace, plan: Plan, run: Run, prices: Prices) -> Bill | None:
    """Return what the run cost; None, with a warning that says why, where nobody can tell."""
    prometheus = options.prometheus or os.environ.get("KIOSK_PROMETHEUS", "")
    if prometheus:
        try:
            return await read_bill(prometheus, run.began, run.ended, prices)
        except InvalidInput:
            raise
        except KioskError as error:
            if not plan.machine:
                sys.stderr.write(f"No costs: {error}\n")
                return None
            sys.stderr.write(f"{error} The price of --machine counts instead.\n")
    if plan.machine:
        money = run.elapsed / 3600 * _price_of(plan, prices, spot=options.spot)
        gpu = bool(plan.machine.partition(",")[2])
        return Bill(0.0 if gpu else money, money if gpu else 0.0, 0.0)
    sys.stderr.write("No costs: neither --prometheus nor --machine says what this ran on.\n")
    return None


def _price_of(plan: Plan, prices: Prices, *, spot: bool) -> float:
    machine, _, gpu = plan.machine.partition(",")
    return prices.hour(machine.strip(), gpu.strip(), max(1, plan.gpus or 1) if gpu else 0, spot=spot)


@contextlib.asynccontextmanager
async def _opened(options: argparse.Namespace) -> Any:
    """Open the bucket: the environment's, or that of the suite on this machine; None without either."""
    settings = load_settings(ServiceSettings).storage
    running = None if os.environ.get("KIOSK_STORAGE__URL") else reach.place(options).running()
    url = os.environ.get("KIOSK_STORAGE__URL") or (running.storage_url if running and not options.url else "")
    if not url:
        yield None
        return
    storage = open_storage(url, settings.deployment, gcs_api_root=settings.gcs_api_root)
    async with contextlib.aclosing(storage):
        yield storage


async def _there(storage: Storage, key: str) -> bool:
    try:
        await read_all(storage.get(key))
    except NotFound:
        return False
    return True


def _write(path: Path, made: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")


def _show(made: dict[str, Any]) -> None:
    elapsed = made["time_elapsed"]
    rows = [
        (name.removesuffix("_time"), *(f"{spread[key]:.3f}" for key in ("mean", "p50", "p95", "max")))
        for name, spread in made["stages"].items()
    ]
    output.table("Seconds of each stage", ("stage", "mean", "median", "95th percentile", "longest"), rows)
    done = made["statuses"]["done"]
    output.say(f"\n{done} of {made['num_jobs']} jobs done in {output.duration(elapsed)}: {done / elapsed:.2f} jobs/s")
    if made["total_node_and_networking_costs"]:
        output.say(
            f"Cost by the prices of {made['prices']}: {made['total_node_and_networking_costs']} "
            f"(CPU nodes {made['cpu_node_cost']}, GPU nodes {made['gpu_node_cost']})"
        )
    for reason in sorted({str(job["reason"]) for job in made["job_data"] if job["status"] != "done"})[:5]:
        output.say(f"Failed: {reason}")


class _Progress:
    """One changing line on a terminal; elsewhere a line now and then, so that a log stays short."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._told = 0.0
        self._terminal = sys.stdout.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._terminal:
            output.say()

    def __call__(self, submitted: int, finished: int, failed: int) -> None:
        now = time.monotonic()
        if now - self._told < (0.1 if self._terminal else 10.0) and finished < self._count:
            return
        self._told = now
        wrong = f", {failed} failed" if failed else ""
        line = f"{submitted} of {self._count} submitted, {finished} finished{wrong}"
        if self._terminal:
            sys.stdout.write(f"\r{line}\033[K")
            sys.stdout.flush()
        else:
            output.say(line)
