"""The job engine as plain Python: what the Lua is compared with, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.jobs import states
from shared.jobs.model import Held, type_of

WORKING, FINAL = states.WORKING, states.FINAL


@dataclass
class ModelJob:
    """A job as it must be."""

    id: str
    owner: str
    priority: int
    max_attempts: int
    retention: float | None = None
    uses: tuple[str, ...] = ()
    key: str = ""
    parent: str = ""
    given: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    status: str = states.NEW
    attempt: int = 0
    losses: int = 0
    holder: str = ""
    deadline: int = 0
    due: int | None = None
    order: int = 0
    children: list[str] = field(default_factory=list)
    expiry: int | None = None
    expire_after: float | str | None = "unset"
    began_forgetting: bool = False

    @property
    def type(self) -> str:
        return type_of(self.id)

    @property
    def facts(self) -> dict[str, str]:
        return self.found | self.given

    def finds(self, facts: Mapping[str, str]) -> None:
        self.found = {**facts, **self.found}


class Model:
    """Jobs, rings of owners, leases and retirement, changed by the rules that the documentation states."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self.jobs: dict[str, ModelJob] = {}
        self.rings: dict[str, list[str]] = {}
        self.retiring: set[str] = set()
        self.doomed: set[str] = set()
        self.dead: dict[str, set[str]] = {}
        self._order = 0

    # -- what is asked --

    def waiting(self, kind: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.type == kind and job.status == states.NEW]

    def queue(self, kind: str, owner: str) -> list[ModelJob]:
        mine = [job for job in self.waiting(kind) if job.owner == owner and job.due is None]
        return sorted(mine, key=lambda job: (-job.priority, job.order))

    def held(self, worker: str) -> set[str]:
        return {job.id for job in self.jobs.values() if job.status in WORKING and job.holder == worker}

    def users(self, name: str) -> set[str]:
        return {job.id for job in self.jobs.values() if name in job.uses and not job.began_forgetting}

    def by_key(self, owner: str, key: str) -> ModelJob | None:
        return next((job for job in self.jobs.values() if key and (job.owner, job.key) == (owner, key)), None)

    def current(self, held: Held, worker: str) -> ModelJob | None:
        job = self.jobs.get(held.id)
        return job if job and (job.attempt, job.holder) == (held.attempt, worker) and job.status in WORKING else None

    # -- what is done --

    def submit(self, job: ModelJob) -> None:
        self.jobs[job.id] = job
        self._enqueue(job)

    def claim(self, worker: str, kinds: Sequence[str], count: int, lease: int) -> list[str]:
        if worker in self.retiring:
            return []
        given: list[str] = []
        for kind in kinds:
            self.promote(kind)
        more = True
        while more and len(given) < count:
            more = False
            for kind in kinds:
                taken = self._take(kind, count - len(given)) if len(given) < count else []
                for job in taken:
                    job.status, job.holder, job.deadline = states.STARTED, worker, self.now + lease
                    job.attempt += 1
                    given.append(job.id)
                more = more or bool(taken)
        return given

    def renew(self, held: Sequence[Held], lease: int, worker: str) -> set[str]:
        lost = set()
        for token in held:
            if job := self.current(token, worker):
                job.deadline = self.now + lease
            else:
                lost.add(token.id)
        return lost

    def complete(self, held: Held, facts: Mapping[str, str], worker: str) -> bool:
        job = self.current(held, worker)
        if job is None:
            return False
        self._finish(job, states.DONE, facts, worker)
        return True

    def fail(self, held: Held, reason: str, again: int | None, worker: str, facts: Mapping[str, str]) -> str:
        job = self.current(held, worker)
        if job is None:
            return ""
        if again is not None:
            return self._lose(job, worker, again)
        self._finish(job, states.FAILED, {"reason": reason, **facts}, worker)
        return "failed"

    def release(self, held: Sequence[Held], worker: str) -> int:
        jobs = [job for token in held if (job := self.current(token, worker))]
        released = 0
        for job in jobs:
            if job.status in WORKING:
                released += 1
                job.status = states.NEW
                self._enqueue(job, front=True)
        return released

    def split(self, held: Held, kinds: Sequence[str], facts: Mapping[str, str], worker: str) -> int:
        job = self.current(held, worker)
        if job is None:
            return -1
        if job.children:
            return -2
        job.status = states.WAITING
        job.finds({"total_jobs": str(len(kinds)), **facts})
        number = job.id.partition(":")[2]
        for part, kind in enumerate(kinds, 1):
            child = ModelJob(f"{kind}:{number}.{part}", job.owner, job.priority, job.max_attempts, parent=job.id)
            job.children.append(child.id)
            self.submit(child)
        return len(kinds)

    def cancel(self, job_id: str) -> int:
        job = self.jobs.get(job_id)
        if job is None:
            return -1
        canceled = 0
        if job.status not in FINAL:
            self._finish(job, states.CANCELED, {"reason": "stop"}, "someone")
            canceled = 1
        return canceled + sum(max(0, self.cancel(child)) for child in job.children)

    def reclaim(self) -> dict[str, str]:
        expired = [job for job in self.jobs.values() if job.status in WORKING and job.deadline <= self.now]
        expired.sort(key=lambda job: (job.deadline, job.id))
        outcomes = {}
        for kind in sorted({job.type for job in self.jobs.values()}):
            for job in [job for job in expired if job.type == kind]:
                outcomes[job.id] = self._lose(job, "janitor", 0)
            self.promote(kind)
        return outcomes

    def evict(self, worker: str, charge: bool) -> set[str]:
        mine = [self.jobs[job_id] for job_id in self.held(worker)]
        for job in mine:
            if charge:
                self._lose(job, "janitor", 0)
            else:
                job.status = states.NEW
                self._enqueue(job, front=True)
        self.retiring.discard(worker)
        return {job.id for job in mine}

    def expire(self, job_id: str, seconds: float | None) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.parent or job.began_forgetting:
            return False
        if job.status not in FINAL:
            job.expire_after = seconds
        else:
            job.expiry = None if seconds is None else self.now + round(seconds * 1000)
        return True

    def due(self) -> set[str]:
        return {job.id for job in self.jobs.values() if job.expiry is not None and job.expiry <= self.now}

    def begin_forgetting(self, job_id: str) -> set[str] | None:
        if job_id not in self.due():
            return None
        job = self.jobs[job_id]
        job.began_forgetting, job.expiry = True, 0
        orphaned = {name for name in job.uses if not self.users(name)}
        self.doomed |= orphaned
        return orphaned

    def forget(self, job_id: str, deleted: set[str]) -> int:
        if job_id not in self.due():
            return 0
        self.doomed -= deleted
        return self._forget(job_id)

    def revive(self, job_id: str, fresh: str) -> bool:
        old = self.jobs.get(job_id)
        if old is None or old.status not in {states.FAILED, states.CANCELED} or old.parent or old.began_forgetting:
            return False
        self.dead.get(old.type, set()).discard(job_id)
        self.submit(
            ModelJob(fresh, old.owner, old.priority, old.max_attempts, old.retention, old.uses, given=dict(old.given))
        )
        return True

    def promote(self, kind: str) -> None:
        ready = [job for job in self.waiting(kind) if job.due is not None and job.due <= self.now]
        for job in sorted(ready, key=lambda job: (job.due, job.id)):
            job.due = None
            self._place(job, front=False)

    # -- how --

    def _take(self, kind: str, count: int) -> list[ModelJob]:
        ring = self.rings.setdefault(kind, [])
        if not ring:
            return []
        owner = ring.pop(0)
        taken = self.queue(kind, owner)[: count if not ring else 1]
        for job in taken:
            job.status = states.STARTED
        if self.queue(kind, owner):
            ring.append(owner)
        return taken

    def _enqueue(self, job: ModelJob, *, front: bool = False) -> None:
        job.due, job.holder = None, ""
        self._place(job, front=front)

    def _place(self, job: ModelJob, *, front: bool) -> None:
        self._order += 1
        job.order = -self._order if front else self._order
        ring = self.rings.setdefault(job.type, [])
        if job.owner not in ring:
            ring.append(job.owner)

    def _leave(self, job: ModelJob) -> None:
        if not self.queue(job.type, job.owner) and job.owner in self.rings.get(job.type, []):
            self.rings[job.type].remove(job.owner)

    def _lose(self, job: ModelJob, by: str, delay: int) -> str:
        job.losses += 1
        if job.losses >= job.max_attempts:
            self._finish(job, states.FAILED, {}, by)
            self.dead.setdefault(job.type, set()).add(job.id)
            return "buried"
        job.status, job.holder = states.NEW, ""
        if delay:
            job.due = self.now + delay
        else:
            self._enqueue(job, front=True)
        return "requeued"

    def _finish(self, job: ModelJob, status: str, facts: Mapping[str, str], _by: str) -> None:
        was = job.status
        job.status, job.holder = status, ""
        if was == states.NEW:
            job.due = None
            self._leave(job)
        job.finds(facts)
        if job.parent:
            self._child_finished(self.jobs[job.parent])
            return
        after = job.retention if job.expire_after == "unset" else job.expire_after
        if isinstance(after, int | float):
            job.expiry = self.now + round(after * 1000)
        job.expire_after = "unset"

    def _child_finished(self, parent: ModelJob) -> None:
        unfinished = [child for child in parent.children if self.jobs[child].status not in FINAL]
        if parent.status == states.WAITING and not unfinished:
            parent.status = states.NEW
            self._enqueue(parent, front=True)

    def _forget(self, job_id: str) -> int:
        job = self.jobs.pop(job_id)
        self.dead.get(job.type, set()).discard(job_id)
        return 1 + sum(self._forget(child) for child in job.children)
