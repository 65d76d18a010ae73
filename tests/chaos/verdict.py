"""What became of every job of a chaos run."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shared.jobs import Job, JobStore, NewJob
from tests.chaos.work import answer_to

Attempt = tuple[str, int]


@dataclass
class Verdict:
    """Counts and times (s) of a run; the first four lists must be empty."""

    lost: list[str] = field(default_factory=list)
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
        return not (self.lost or self.finished_twice or self.wrong or self.findings)

    def told(self, happened: dict[str, int], lease: float) -> str:
        """Return the run as lines for people."""
        rate = self.jobs / max(self.seconds, 1e-9)
        lines = (
            f"jobs {self.jobs}, parts included; {self.seconds:.1f} s, {rate:.0f} jobs/s",
            f"lost {len(self.lost)}, finished twice {len(self.finished_twice)}, wrong {len(self.wrong)}",
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


async def verdict(store: JobStore, submitted: list[NewJob], diary: Path, killed: list[tuple[str, float]]) -> Verdict:
    """Compare what was submitted with what is in the store, and with what the workers noted."""
    result = Verdict()
    jobs = {job.id: await store.get(job.id) for job in submitted}
    parts = [part for job in submitted if job.id.startswith("archive:") for part in await store.children(job.id)]
    jobs |= {part: await store.get(part) for part in parts}
    result.jobs = len(jobs)
    for job_id, job in jobs.items():
        if job is None or not job.final:
            result.lost.append(job_id)
        elif fault := await _fault(store, job):
            result.wrong.append(f"{job_id}: {fault}")
        elif job.type == "poison":
            result.buried += 1
    starts, ends = _read(diary, result)
    for job_id, attempts in ends.items():
        if len(attempts) > 1:
            result.finished_twice.append(f"{job_id}: attempts {sorted(attempts)}")
    result.executions = sum(len(attempts) for attempts in starts.values())
    result.executed_twice = sum(1 for attempts in starts.values() if len(attempts) > 1)
    _recoveries(result, starts, dict(killed), ends)
    return result


async def _fault(store: JobStore, job: Job) -> str:
    expected = {"invalid": "failed", "poison": "failed"}.get(job.type, "done")
    if job.status != expected:
        return f"it is {job.status}: {job.fields.get('reason')}"
    if job.type == "invalid":
        return "" if job.fields["reason"] == "This is no image." else job.fields["reason"]
    if job.type == "poison":
        return "" if job.fields["reason"].count("lost its worker") == 3 else job.fields["reason"]
    payload = job.fields["payload"]
    if job.type == "archive":
        children = await store.get_many(await store.children(job.id))
        payload = "+".join(child.fields.get("answer", "?") if child else "?" for child in children)
        if len(children) != int(job.fields["payload"]):
            return f"it has {len(children)} parts"
    if job.fields["answer"] != answer_to(payload):
        return "its answer is not that to its payload"
    if job.fields["output"] != f"output/{job.id}/{job.attempt}/result":
        return f"its output {job.fields['output']} is not that of attempt {job.attempt}"
    return ""


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
