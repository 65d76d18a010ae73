"""What each owner's jobs used today and in the last days, and what that is worth."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from services.console import output
from shared.costs import CostSettings, Rates, Use, rates, total
from shared.jobs import JobStore
from shared.settings import ServiceSettings, load

#: Days that the sums go back, today among them.
DAYS = 30


class _Settings(ServiceSettings):
    cost: CostSettings = CostSettings()


async def read(store: JobStore, today: dt.date | None = None) -> dict[str, Any]:
    """Return for each owner the use of today and of all days looked at, and their worth where machines are named.

    Raises:
        Misconfigured: a machine named by KIOSK_COST__ has no price.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    worth = rates(load(_Settings).cost)
    days = [await store.usage(today - dt.timedelta(days=back)) for back in range(DAYS)]
    owners = sorted({owner for day in days for owner in day})
    return {
        "days": DAYS,
        "prices": worth.prices if worth else None,
        "warning": worth.warning if worth else "",
        "owners": [
            {
                "owner": owner,
                "jobs": int(sum(day.get(owner, {}).get("jobs", 0) for day in days)),
                "today": _told([days[0].get(owner, {})], worth),
                "sum": _told([day.get(owner, {}) for day in days], worth),
            }
            for owner in owners
        ],
    }


def _told(uses: list[dict[str, float]], worth: Rates | None) -> dict[str, float | None]:
    use = total(Use.of(each) for each in uses)
    return {
        "gpu_hours": use.gpu_seconds / 3600,
        "cpu_hours": use.cpu_seconds / 3600,
        "bytes": use.bytes_in + use.bytes_out,
        "cost": worth.total(use) if worth else None,
    }


def show(spend: dict[str, Any]) -> None:
    """Print it; nothing where no job has ended yet."""
    if not spend["owners"]:
        return
    output.say()
    output.table(
        f"Use of the last {spend['days']} days (today)",
        ("owner", "jobs", "GPU time", "CPU time", "GB moved", "worth"),
        [_row(row) for row in spend["owners"]],
    )
    if spend["prices"] is None:
        output.say("Name the machines by KIOSK_COST__GPU_MACHINE and KIOSK_COST__CPU_MACHINE to see what it is worth.")
    elif spend["warning"]:
        output.say(spend["warning"])


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    def both(name: str, told: Callable[[float], str]) -> str:
        values = [row[span][name] for span in ("sum", "today")]
        return "-" if None in values else "{} ({})".format(*map(told, values))

    hours = [both(name, lambda value: output.duration(3600 * value)) for name in ("gpu_hours", "cpu_hours")]
    return (
        row["owner"],
        row["jobs"],
        *hours,
        both("bytes", lambda value: f"{value / 1e9:.3f}"),
        both("cost", "{:.4f}".format),
    )
