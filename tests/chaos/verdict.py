"""What became of every job of a chaos run."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shared.jobs import Job
from shared.storage import read_all
from tests.chaos.client import Accepted
from tests.chaos.suite import Suite
from tests.chaos.work import HEAD, answer_to, result_of

Attempt = tuple[str, int]


@dataclass
class Verdict:
    """Counts and times (s) of a run; the first five lists must be empty."""

    lost: list[str] = field(default_factory=list)
    submitted_twice: list[str] = field(default_factory=list)
    finished_twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    jobs: int = 0
    executions: int = 0
    executed_twice: int = 0
    refused: int = 0
    buried: int = 0
    recoveries: int = 0
    recovery_p50: float = 0.0
    recovery_p99: float = 0.0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether the promise was kept."""
        return not any(self.faults().values())

    def faults(self) -> dict[str, list[str]]:
        """Return the first of what must not be."""
        names = ("lost", "submitted_twice", "finished_twice", "wrong", "findings")
        return {name: getattr(self, name)[:5] for name in names}

    def told(self, happened: dict[str, int], lease: float) -> str:
        """Return the run as lines for people."""
        rate = self.jobs / max(self.seconds, 1e-9)
        lines = (
            f"jobs {self.jobs}, parts included; {self.seconds:.1f} s, {rate:.0f} jobs/s",
            f"lost {len(self.lost)}, submitted twice {len(self.submitted_twice)}",
            f"finished twice {len(self.finished_twice)}, wrong {len(self.wrong)}",
            f"broken invariants {len(self.findings)}",
            f"executions {self.executions}, jobs executed more than once {self.executed_twice}",
            f"ends refused to zombies {self.refused}, poisonous jobs buried {self.buried}",
            f"jobs recovered after SIGKILL of their worker {self.recoveries} (lease {lease:g} s)",
            f"recovery p50 {self.recovery_p50:.2f} s, p99 {self.recovery_p99:.2f} s",
            "happened: " + ", ".join(f"{name} {number}" for name, number in sorted(happened.items())),
        )
        return "\n".join(lines)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


async def verdict(suite: Suite, accepted: list[Accepted]) -> Verdict:
    """Compare what was accepted with what is in the store and in the storage, and with what the workers noted."""
    result, store = Verdict(), suite.store
    payloads = {job.id: job.payload for job in accepted}
    jobs = {job.id: await store.get(job.id) for job in accepted}
    parts = [part for job in accepted if job.id.startswith("bundle:") for part in await store.children(job.id)]
    jobs |= {part: await store.get(part) for part in parts}
    result.submitted_twice = [job_id async for job_id in store.all_ids() if job_id not in jobs]
    result.jobs = len(jobs)
    for job_id, job in jobs.items():
        if job is None or not job.final:
            result.lost.append(job_id)
        elif fault := await _fault(suite, job, payloads.get(job_id, b"")):
            result.wrong.append(f"{job_id}: {fault}")
        elif job.type == "poison":
            result.buried += 1
    starts, ends = _read(suite.diary, result)
    for job_id, attempts in ends.items():
        if len(attempts) > 1:
            result.finished_twice.append(f"{job_id}: attempts {sorted(attempts)}")
    result.executions = sum(len(attempts) for attempts in starts.values())
    result.executed_twice = sum(1 for attempts in starts.values() if len(attempts) > 1)
    _recoveries(result, starts, dict(suite.killed), ends)
    return result


async def _fault(suite: Suite, job: Job, content: bytes) -> str:
    expected = {"invalid": "failed", "poison": "failed"}.get(job.type, "done")
    if job.status != expected:
        return f"it is {job.status}: {job.fields.get('reason')}"
    if job.type == "invalid":
        return "" if job.fields["reason"] == "This is no image." else job.fields["reason"]
    if job.type == "poison":
        return "" if job.fields["reason"].count("lost its worker") == 3 else job.fields["reason"]
    payload: bytes | str = job.fields["payload"] if job.type == "part" else content
    if job.type == "bundle":
        children = await suite.store.get_many(await suite.store.children(job.id))
        payload = "+".join(child.fields.get("answer", "?") if child else "?" for child in children)
        if len(children) != int(content.removeprefix(HEAD)):
            return f"it has {len(children)} parts"
    if job.fields["answer"] != answer_to(payload):
        return "its answer is not that to its payload"
    if job.fields["output"] != result_of(job):
        return f"its output {job.fields['output']} is not that of attempt {job.attempt}"
    stored = await read_all(suite.storage.get(result_of(job)))
    return "" if stored.decode() == job.fields["answer"] else f"its result holds {stored[:80]!r}"


Starts = dict[str, dict[int, tuple[str, float]]]


def _read(diary: Path, result: Verdict) -> tuple[Starts, dict[str, set[int]]]:
    starts: Starts = defaultdict(dict)
    ends: dict[str, set[int]] = defaultdict(set)
    for line in diary.read_text().splitlines():
        what, job_id, attempt, worker, at = line.split(" ")
        if what == "start":
            starts[job_id][int(attempt)] = (worker, float(at))
        elif what == "end":
            ends[job_id].add(int(attempt))
        elif what == "refused":
            result.refused += 1
    return starts, ends


def _recoveries(result: Verdict, starts: Starts, killed: dict[str, float], ends: dict[str, set[int]]) -> None:
    """Times from the kill of a worker until what it worked on was started by another."""
    times = []
    for job_id, attempts in starts.items():
        for attempt, (worker, _at) in attempts.items():
            later = [other for other in attempts if other > attempt]
            if worker in killed and later and attempt not in ends[job_id]:
                times.append(attempts[min(later)][1] - killed[worker])
    times = sorted(time for time in times if time > 0)
    result.recoveries = len(times)
    if times:
        result.recovery_p50, result.recovery_p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
