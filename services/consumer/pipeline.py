"""What a job type is: one class with its options and its `run`; and where such classes are found."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from services.consumer.worker import Outcome
from shared.errors import InvalidInput, Misconfigured
from shared.jobs import Job, JobType

if TYPE_CHECKING:
    from services.consumer.tools import Tools

#: The group of entry points under which installed packages offer job types.
ENTRY_POINTS = "cellkiosk.pipelines"

#: Endings of the image files that the readers know.
IMAGES = (".tif", ".tiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg", ".npy", ".npz", ".zarr.zip", ".ozx")


class Options(BaseModel):
    """Options of a job type: typed, with a default each, shown to people by title and description."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Pipeline(ABC, Generic[OptionsT]):
    """One job type.

    A subclass sets ``job_type``, ``title`` and ``Options``, and says in `run` what becomes of a job. It is made
    once in each worker and keeps nothing of a job in itself: many jobs run at once.
    """

    job_type: ClassVar[str]
    title: ClassVar[str] = ""
    description: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 100
    """Order in lists; the lowest is the default."""
    public: ClassVar[bool] = True
    """Whether people may name it; parts of other jobs are not for them."""
    model: ClassVar[str] = ""
    """The model it uses where the job names none."""
    accepts: ClassVar[tuple[str, ...]] = IMAGES
    Options: ClassVar[type[BaseModel]] = Options
    """The typed model of its options; the same as in the brackets after ``Pipeline``."""

    @abstractmethod
    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Do the job.

        Raises:
            InvalidInput: the input cannot be analysed; its sentence becomes the job's reason, and it is not retried.
            Retry: something was away; the job is tried again, at most as often as it may be lost.
        """

    def options(self, job: Job) -> OptionsT:
        """Return a job's options, checked; raises InvalidInput naming the one that is wrong."""
        try:
            return cast("OptionsT", self.Options.model_validate(job.options))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(step) for step in first["loc"]) or "options"
            raise InvalidInput(f"The option {name} is wrong: {first['msg']}.", code="invalid-option") from error

    @classmethod
    def described(cls) -> JobType:
        """Return what the frontend needs to offer this job type and to check its options."""
        return JobType(
            name=cls.job_type,
            title=cls.title or cls.job_type,
            description=cls.description,
            options_schema=cls.Options.model_json_schema(),
            aliases=cls.aliases,
            rank=cls.rank,
            public=cls.public,
            model=cls.model,
            accepts=cls.accepts,
        )


def discover(wanted: Iterable[str] = ()) -> dict[str, Pipeline[Any]]:
    """Return the job types of `pipelines/` and of installed packages, by name.

    Args:
        wanted: names to serve; empty for all.

    Raises:
        Misconfigured: a wanted one is not there, or two have one name.
    """
    found: dict[str, Pipeline[Any]] = {}
    for kind in [*_own(), *_installed()]:
        if kind.job_type in found:
            other = type(found[kind.job_type])
            raise Misconfigured(
                f"The job type {kind.job_type} is defined twice: by {other.__module__} and {kind.__module__}."
            )
        found[kind.job_type] = kind()
    names = list(wanted) or list(found)
    if unknown := [name for name in names if name not in found]:
        raise Misconfigured(f"There is no job type {unknown[0]!r} to serve; there are {', '.join(sorted(found))}.")
    return {name: found[name] for name in names}


def _own() -> list[type[Pipeline[Any]]]:
    from services.consumer import pipelines

    kinds: list[type[Pipeline[Any]]] = []
    for module in pkgutil.iter_modules(pipelines.__path__):
        loaded = importlib.import_module(f"{pipelines.__name__}.{module.name}")
        kinds += [
            value
            for value in vars(loaded).values()
            if isinstance(value, type) and issubclass(value, Pipeline) and value.__module__ == loaded.__name__
        ]
    return kinds


def _installed() -> list[type[Pipeline[Any]]]:
    kinds = []
    for entry in entry_points(group=ENTRY_POINTS):
        kind = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Pipeline)):
            raise Misconfigured(f"The entry point {entry.name} ({entry.value}) is not a subclass of Pipeline.")
        kinds.append(kind)
    return kinds
