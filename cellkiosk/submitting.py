"""Many files at once: sent some at a time, watched together, each result fetched as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellkiosk.aio import AsyncClient, AsyncJob
from cellkiosk.errors import BadFile, JobFailed, KioskError, NotAllowed, Refused, Unreachable
from cellkiosk.files import fetch
from cellkiosk.progress import Board, Row, note_of


@dataclass(frozen=True)
class Order:
    """What is to be done with each file."""

    type: str | None
    options: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    model_version: str = ""


@dataclass
class Outcome:
    """What became of one file."""

    path: Path
    row: Row
    job: AsyncJob | None = None
    status: str = ""
    result: Path | None = None
    error: str = ""
    code: int = 0
    """Exit code that it stands for."""

    @property
    def job_id(self) -> str:
        """Of its job; empty if there is none."""
        return self.job.id if self.job else ""

    def told(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "file": str(self.path),
            "id": self.job_id or None,
            "status": self.status or None,
            "result": str(self.result) if self.result else None,
            "error": self.error or None,
        }


class Submission:
    """One call of ``kiosk submit``."""

    def __init__(self, client: AsyncClient, board: Board, order: Order, *, priority: int, parallel: int) -> None:
        self._client = client
        self._board = board
        self._order = order
        self._priority = priority
        self._turns = asyncio.Semaphore(max(1, parallel))
        self._naming = asyncio.Lock()

    async def run(self, paths: Sequence[Path], *, wait: bool, out: Path | None, unpack: bool) -> list[Outcome]:
        """Send the files; wait for their jobs and fetch the results if asked to.

        Raises:
            Unreachable, NotAllowed, Refused: what would befall every other file too.
        """
        self._order = replace(self._order, type=await self._type())
        outcomes = [Outcome(path, self._board.add(path.name)) for path in paths]
        await asyncio.gather(*(self._send(outcome) for outcome in outcomes))
        if wait:
            await self._wait([outcome for outcome in outcomes if outcome.job], out, unpack=unpack)
        self._board.draw(force=True)
        return outcomes

    async def _type(self) -> str | None:
        """Return the job type, and refuse one or an option that there is not before a file is sent in vain."""
        kinds = await self._client.job_types()
        if not kinds or self._order.type is None:
            return kinds[0].name if kinds else self._order.type
        wanted = self._order.type.strip().lower()
        kind = next((one for one in kinds if wanted in {name.lower() for name in (one.name, *one.aliases)}), None)
        if kind is None:
            known = ", ".join(one.name for one in kinds)
            raise Refused(
                f"There is no job type {self._order.type!r}; the job types are: {known}.", 400, "unknown-job-type"
            )
        known_options = kind.options.get("properties", {})
        extra = sorted(set(self._order.options) - set(known_options))
        if extra and kind.options.get("additionalProperties") is False:
            raise Refused(
                f"The job type {kind.name} has no option {', '.join(extra)}; its options are: "
                f"{', '.join(known_options) or 'none'}.",
                400,
                "unknown-option",
            )
        return kind.name

    async def _send(self, outcome: Outcome) -> None:
        def told(sent: int, size: int) -> None:
            self._board.set(outcome.row, "uploading", 100.0 * sent / max(1, size))

        async with self._turns:
            try:
                outcome.job = await self._client.submit(
                    outcome.path,
                    self._order.type,
                    self._order.options,
                    model=self._order.model,
                    model_version=self._order.model_version,
                    priority=self._priority,
                    progress=told,
                )
            except (Unreachable, NotAllowed):
                raise
            except KioskError as error:
                self._fail(outcome, error)
                return
        outcome.status = outcome.job.info.status if outcome.job.info else "new"
        self._board.set(outcome.row, "submitted", 0)

    async def _wait(self, outcomes: list[Outcome], out: Path | None, *, unpack: bool) -> None:
        by_id = {outcome.job_id: outcome for outcome in outcomes}
        fetching: list[asyncio.Task[None]] = []
        async for event in self._client.watch(list(by_id)):
            outcome = by_id[event.id]
            outcome.status = event.status
            self._board.set(outcome.row, event.status, event.progress, note_of(event))
            if event.final and event.status != "done":
                self._fail(outcome, JobFailed(event.id, event.reason or f"The job ended as {event.status!r}."))
            elif event.final and out is not None:
                fetching.append(asyncio.create_task(self._fetch(outcome, out, unpack=unpack)))
        await asyncio.gather(*fetching)

    async def _fetch(self, outcome: Outcome, out: Path, *, unpack: bool) -> None:
        assert outcome.job is not None
        async with self._naming:  # one at a time: each looks for a name that is free
            try:
                info = await outcome.job.refresh()
                outcome.result = await fetch(outcome.job, info, out, unpack=unpack)
            except KioskError as error:
                self._fail(outcome, error)

    def _fail(self, outcome: Outcome, error: KioskError) -> None:
        outcome.error = str(error)
        outcome.code = 1 if isinstance(error, JobFailed) else 2 if isinstance(error, BadFile | Refused) else 3
        self._board.set(outcome.row, "failed", outcome.row.percent, outcome.error)
