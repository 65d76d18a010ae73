"""Orders that come again under the same name: the same order is the same job, another one is refused."""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import InvalidInput
from shared.jobs import Job, JobStore, NewJob
from shared.jobs.model import type_of

#: What a client may say of a job, and the field of the hash that holds it.
_FIELDS = {
    "type": "item_type",
    "name": "original_name",
    "options": "options",
    "model": "model",
    "model_version": "model_version",
    "priority": "priority",
    "batch": "batch",
    "webhook": "webhook",
}


async def refuse_another(store: JobStore, wanted: NewJob, known_id: str) -> None:
    """Return if a job that was there already is the one that is ordered again.

    Raises:
        InvalidInput: it is another's, or another order; the sentence names what differs.
    """
    known = await store.get(known_id)
    if known is None:
        return  # forgotten just now: whoever looks for it is told so
    if known.owner != wanted.owner:
        raise InvalidInput("This id is taken; make another one.", code="conflict")
    differing = differences(wanted, known)
    if not await _same_file(store, wanted, known):
        differing = ["file", *differing]
    if differing:
        raise _refused(wanted, known, " and ".join(filter(None, [", ".join(differing[:-1]), differing[-1]])))


def differences(wanted: NewJob, known: Job) -> list[str]:
    """Return what an order says otherwise than a job that is there, in the words of API v1; files are not compared."""
    said = _said(wanted.id, {**wanted.facts, "priority": str(wanted.priority), "batch": wanted.batch})
    was = _said(known.id, known.fields)
    return [name for name, field in _FIELDS.items() if said.get(field, "") != was.get(field, "")]


def _said(job_id: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Return fields, with the type that the client named: of an archive, that of its images."""
    return {"item_type": type_of(job_id), **fields}


async def _same_file(store: JobStore, wanted: NewJob, known: Job) -> bool:
    key = wanted.facts["input_file_name"]
    if key == known.fields.get("input_file_name"):
        return True
    shared = await store.shared(key)  # a file that was sent once more has another name, but the same bytes
    return shared is not None and shared.object == known.input_object


def _refused(wanted: NewJob, known: Job, differing: str) -> InvalidInput:
    if wanted.idempotency_key:
        return InvalidInput(
            f"This Idempotency-Key was used for the job {known.id}, with another {differing}. Make a new key for each "
            "order; send the same one only with the same order.",
            code="idempotency-key-reused",
        )
    return InvalidInput(
        f"The job {known.id} was submitted with another {differing}, and a job does not change. Make another id, or "
        "send what was sent before.",
        code="conflict",
    )
