"""What goes into the job store and what comes out of it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidInput
from shared.jobs import states

_TYPE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ID = re.compile(rf"{_TYPE.pattern}:[0-9a-f]{{32}}(?:\.\d{{1,6}})*")

#: Jobs of a higher priority go first among the jobs of one owner.
PRIORITIES = range(-100, 101)


def new_id(job_type: str) -> str:
    """Return a fresh, unguessable job id of a type."""
    return f"{check_type(job_type)}:{secrets.token_hex(16)}"


def check_type(job_type: str) -> str:
    """Return the job type, or raise InvalidInput where it could not be part of a key."""
    if not _TYPE.fullmatch(job_type):
        raise InvalidInput(f"The job type {job_type!r} is not made of small letters, digits and hyphens.")
    return job_type


def is_id(text: str) -> bool:
    """Tell whether a text has the form of a job id, so that it can name nothing but a job."""
    return _ID.fullmatch(text) is not None


def type_of(job_id: str) -> str:
    """Return the job type within a job id."""
    return job_id.partition(":")[0]


def percent(fields: Mapping[str, str]) -> int:
    """Return how far a job has come, as its hash tells it, 0 to 100; 0 where that is no number."""
    text = fields.get("progress", "")
    return min(100, int(text)) if text.isdecimal() and len(text) <= 3 else 0


def is_writable(*texts: object) -> bool:
    """Tell whether these are texts that Redis can keep: UTF-8, or bytes that were read as text all the same."""
    try:
        text = "".join(texts)  # type: ignore[arg-type]
        return text.isascii() or bool(text.encode("utf-8", "surrogateescape"))
    except (TypeError, UnicodeEncodeError):
        return False


def fault_in(facts: Mapping[str, str]) -> str:
    """Return a sentence on what is wrong with facts; empty where they can be written."""
    if not RESERVED_FIELDS.isdisjoint(facts):
        reserved = sorted(RESERVED_FIELDS & set(facts))
        return f"The store itself writes {', '.join(reserved)}: not to be given as facts."
    if is_writable(*facts, *facts.values()):
        return ""
    wrong = next(name for name, text in facts.items() if not is_writable(name, text))
    return f"The fact {wrong!r} is {facts[wrong]!r}; it must be text that UTF-8 can hold."


@dataclass(frozen=True)
class NewJob:
    """A job to be submitted.

    Attributes:
        id: its id, from `new_id`; children get theirs from the script.
        facts: write-once fields of its hash: names to texts. The store adds ``type``, ``owner``, ``priority``,
            ``created_at``, ``max_attempts`` and the moving fields.
        owner: in whose turn it is claimed.
        priority: -100..100, higher first among the owner's jobs.
        max_attempts: losses after which it is buried.
        retention: seconds that the finished job is kept; None keeps it until somebody expires it.
        uses: uploads that it reads; their objects go with the last job that names them.
        idempotency_key: the same key of the same owner returns the same job; empty for none.
        batch: the batch that it belongs to; empty for none.
    """

    id: str
    facts: Mapping[str, str] = field(default_factory=dict)
    owner: str = "anonymous"
    priority: int = 0
    max_attempts: int = 3
    retention: float | None = None
    uses: tuple[str, ...] = ()
    idempotency_key: str = ""
    batch: str = ""

    def __post_init__(self) -> None:
        """Refuse what could break the store's promises.

        Raises:
            InvalidInput: naming the field that is wrong and what is allowed.
        """
        if not is_id(self.id):
            raise InvalidInput(f"{self.id!r} is not a job id.")
        if self.priority not in PRIORITIES:
            raise InvalidInput(f"The priority is {self.priority}; allowed are whole numbers from -100 to 100.")
        if sentence := fault_in(self.facts):
            raise InvalidInput(sentence)
        if not is_writable(self.owner, self.idempotency_key, self.batch, *self.uses):
            about = f"owner {self.owner!r}, idempotency key {self.idempotency_key!r}, batch {self.batch!r}"
            raise InvalidInput(f"A job's {about} and files must be texts that UTF-8 can hold.")


#: Fields of a job hash that only the scripts write.
RESERVED_FIELDS = frozenset(
    {
        *states.MOVING_FIELDS,
        "type",
        "owner",
        "priority",
        "created_at",
        "created_ms",
        "finished_at",
        "max_attempts",
        "retention",
        "idempotency_key",
        "batch",
        "uses",
        "stored_as",
        "parent",
        "part",
        "revived_from",
        "found_by_split",
        "found_by_end",
    }
)


@dataclass(frozen=True)
class Submitted:
    """The answer to one submitted job: its id, and whether it was created now or known by its key already."""

    id: str
    created: bool


@dataclass(frozen=True)
class Held:
    """A job that a worker holds: the id and the fencing token of its claim."""

    id: str
    attempt: int


@dataclass(frozen=True)
class Job:
    """One job as its hash says: all fields as texts, with the common ones at hand."""

    id: str
    fields: Mapping[str, str]

    @property
    def type(self) -> str:
        """Its job type."""
        return type_of(self.id)

    @property
    def status(self) -> str:
        """Its state, a word of `shared.jobs.states`."""
        return self.fields.get("status", "")

    @property
    def final(self) -> bool:
        """Whether its state is never left again."""
        return self.status in states.FINAL

    @property
    def owner(self) -> str:
        """Whose job it is."""
        return self.fields.get("owner", "")

    @property
    def attempt(self) -> int:
        """Number of its latest claim: the fencing token."""
        return int(self.fields.get("attempt", "0"))

    @property
    def held(self) -> Held:
        """What its worker must show to change it."""
        return Held(self.id, self.attempt)

    @property
    def uses(self) -> tuple[str, ...]:
        """The uploads that it reads; their objects go with the last job that names them."""
        return tuple(json.loads(self.fields.get("uses", "[]")))

    @property
    def input_object(self) -> str:
        """The object that it reads: of equal uploads there is only one, under the name of the first; empty: none."""
        return self.fields.get("stored_as") or self.fields.get("input_file_name", "")

    @property
    def options(self) -> dict[str, Any]:
        """Its options as they were validated at submit."""
        return dict(json.loads(self.fields.get("options", "{}") or "{}"))


@dataclass(frozen=True)
class Claim:
    """The answer to a claim.

    Attributes:
        jobs: the jobs that the worker now holds; empty when there were none, and then the worker is parked.
        next_due: seconds until the next delayed job of these types is due; None where there is none.
        retiring: whether the worker was told to go: it will get no more jobs.
    """

    jobs: tuple[Job, ...] = ()
    next_due: float | None = None
    retiring: bool = False


@dataclass(frozen=True)
class QueueState:
    """One queue: counts of jobs, the oldest waiting job's age in seconds, and of owners who have jobs that wait."""

    type: str
    waiting: int
    running: int
    delayed: int
    dead: int
    oldest_age: float
    owners: int = 0


@dataclass(frozen=True)
class WorkerState:
    """One worker: its announced facts, what it holds, and whether it lives and may claim.

    Attributes:
        id: its name, unique for a process.
        facts: what it announced, such as ``types``, ``pod``, ``host``, ``pid``, ``version``.
        held: number of jobs that it holds.
        alive: whether its last heartbeat still counts.
        retiring: whether it was told to claim no more.
        absent: seconds since its last heartbeat ceased to count; 0 while it lives.
    """

    id: str
    facts: Mapping[str, str]
    held: int
    alive: bool
    retiring: bool
    absent: float = 0.0

    @property
    def types(self) -> tuple[str, ...]:
        """The job types that it claims."""
        return tuple(filter(None, self.facts.get("types", "").split(",")))


@dataclass(frozen=True)
class JobType:
    """What a consumer announces of a job type, so that the frontend can offer and validate it.

    Attributes:
        name: the job type.
        title: its name for people.
        description: a sentence for people.
        options_schema: JSON Schema (2020-12) of its options, an object.
        aliases: other names that clients may use.
        rank: order in lists; the lowest is the default.
        public: whether clients may name it (parts of others are not).
        model: the model it uses by default; empty for none.
        accepts: endings of the file names it accepts, such as ``.tif``.
    """

    name: str
    title: str = ""
    description: str = ""
    options_schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    aliases: tuple[str, ...] = ()
    rank: int = 100
    public: bool = True
    model: str = ""
    accepts: tuple[str, ...] = ()
