"""The job types and models that there are, as consumers announced them, and what options are allowed."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidInput, Retry
from shared.jobs import JobStore, JobType

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

#: Seconds for which what was announced is believed without looking again.
_FRESH = 2.0

#: Levels of options within options: more cannot be told again as JSON.
_DEEPEST = 20

#: Letters of a job's options, as JSON: more than anybody means, and quick to look at.
_LONGEST = 20_000

#: The job type of an archive, whose images are jobs of the type that the client named.
ARCHIVE = "archive"


class Catalogue:
    """What can be ordered."""

    def __init__(self, store: JobStore) -> None:
        """Read from a store when asked."""
        self._store = store
        self._types: dict[str, JobType] = {}
        self._named: dict[str, JobType] = {}
        self._models: dict[str, list[str]] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def types(self) -> dict[str, JobType]:
        """Return all announced job types, parts of others among them, in their order for lists."""
        await self._refresh(_FRESH)
        return self._types

    async def public(self) -> list[JobType]:
        """Return the job types that clients may name, the default first."""
        return [kind for kind in (await self.types()).values() if kind.public and kind.name != ARCHIVE]

    async def models(self) -> dict[str, list[str]]:
        """Return the models that are served, by name, with their versions."""
        await self._refresh(_FRESH)
        return self._models

    async def find(self, name: str) -> JobType:
        """Return the job type of a name or alias.

        Raises:
            InvalidInput: there is none; the sentence names those there are.
            Retry: no consumer has ever said what it serves.
        """
        low = name.strip().lower()
        found = self._named.get(low)
        if found is None or self._stale(_FRESH):
            await self._refresh(_FRESH if found else 0.05)
            found = self._named.get(low)
        if found is not None:
            return found
        if not self._types:
            raise Retry("No consumer has announced its job types yet: the service is still starting.", after=2.0)
        known = ", ".join(kind.name for kind in await self.public())
        raise InvalidInput(f"There is no job type {name[:80]!r}; the job types are: {known}.", code="unknown-job-type")

    async def check_model(self, name: str, version: str) -> None:
        """Refuse a model that is not served; an empty name or version leaves the choice to the service.

        Raises:
            InvalidInput: naming the models, or the versions, that there are.
        """
        if not name:
            return
        models = await self.models()
        # Where nobody has said what is served, the consumer finds out.
        if models and name not in models:
            known = ", ".join(sorted(models))
            raise InvalidInput(f"There is no model {name[:80]!r}; the models are: {known}.", code="unknown-model")
        if models and version and models[name] and version not in models[name]:
            known = ", ".join(models[name])
            raise InvalidInput(f"The model {name} has no version {version[:80]!r}, but {known}.", code="unknown-model")

    def _stale(self, fresh: float) -> bool:
        return time.monotonic() - self._read_at > fresh

    async def _refresh(self, fresh: float) -> None:
        if not self._stale(fresh):
            return
        async with self._reading:
            if self._stale(fresh):
                types, self._models = await asyncio.gather(self._store.types(), self._store.models())
                if types != self._types:
                    self._types, self._named = types, _named(types)
                self._read_at = time.monotonic()


def checked_options(kind: JobType, options: Mapping[str, Any]) -> str:
    """Return the options of a job as JSON, if the job type's schema allows them.

    Raises:
        InvalidInput: naming the option that is wrong and what is allowed.
    """
    if not _within(options, _DEEPEST):
        raise InvalidInput(f"The options are nested more than {_DEEPEST} levels deep.", code="invalid-option")
    text = _IN_ORDER.encode(options)
    if len(text) > _LONGEST:
        raise InvalidInput(
            f"The options are {len(text):,} letters long, as JSON; {_LONGEST:,} are allowed.", code="invalid-option"
        )
    return _checked(kind.name, _schema_text(kind), text)


def _within(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(_within(each, depth - 1) for each in value.values())
    return not isinstance(value, list) or (depth > 0 and all(_within(each, depth - 1) for each in value))


_IN_ORDER = json.JSONEncoder(sort_keys=True)
#: By job type: what was announced last, and its schema as text.
_texts: dict[str, tuple[JobType, str]] = {}


def _schema_text(kind: JobType) -> str:
    known = _texts.get(kind.name)
    if known is None or known[0] is not kind:
        known = _texts[kind.name] = (kind, json.dumps(kind.options_schema))
    return known[1]


@functools.lru_cache(maxsize=1024)
def _checked(name: str, schema: str, options: str) -> str:
    from jsonschema.exceptions import best_match

    validator = _validator(name, schema)
    if (fault := best_match(validator.iter_errors(json.loads(options)))) is None:
        return options
    properties = json.loads(schema).get("properties", {})
    known = ", ".join(properties) or "none"
    if fault.validator == "additionalProperties" and not fault.path:
        extra = sorted(set(json.loads(options)) - set(properties))
        raise InvalidInput(
            f"The job type {name} has no option {', '.join(extra)[:80]}; its options are: {known}.",
            code="unknown-option",
        )
    while fault.context:
        # Of several alternatives, the one of the right kind says best what is wrong.
        fault = next((inner for inner in fault.context if inner.validator != "type"), fault.context[0])
    path = ".".join(str(step) for step in fault.absolute_path) or "options"
    raise InvalidInput(f"The option {path} is wrong: {fault.message[:300]}.", code="invalid-option")


@functools.lru_cache(maxsize=64)
def _validator(name: str, schema: str) -> Draft202012Validator:
    # Imported with the first order: a tenth of a second of the start.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError as error:
        raise Retry(f"The job type {name} was announced with a broken schema; its consumer must be mended.") from error
    return Draft202012Validator(parsed)


def from_texts(kind: JobType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that old clients send, as the schema wants them.

    Numbers and lists may come as texts, blanks mean the default, and options that the job type has not are ignored:
    old clients send all of them with every job.
    """
    if all(isinstance(value, str) for value in given.values()):
        # One form is sent with a thousand images: what it means is worked out once.
        return dict(_meant(_schema_text(kind), tuple(given.items())))
    return _meaning(kind.options_schema, given.items())


@functools.lru_cache(maxsize=1024)
def _meant(schema: str, given: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    return _meaning(json.loads(schema), given)


def _meaning(schema: Mapping[str, Any], given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {
        name: _from_text(value, properties[name], schema)
        for name, value in given
        if name in properties and not _blank(value)
    }


def _blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _from_text(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    shapes = _shapes(schema, root)
    lists = [shape for shape in shapes if shape.get("type") == "array"]
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and lists):
        items = lists[0].get("items", {}) if lists else {}
        parts = value.strip().strip("[]").split(",") if isinstance(value, str) else value
        return [_from_text(part.strip() if isinstance(part, str) else part, items, root) for part in parts]
    if lists and isinstance(value, (int, float)):
        return [value]
    if not isinstance(value, str):
        return value
    for shape in shapes:
        if (number := _scalar(value.strip(), shape.get("type"))) is not None:
            return number
    return value.strip()


def _scalar(text: str, kind: Any) -> int | float | bool | None:
    try:
        match kind:
            case "integer":
                return int(float(text)) if float(text).is_integer() else float(text)
            case "number":
                number = float(text)
                return number if number - number == 0 else None
            case "boolean":
                return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())
    except (ValueError, OverflowError):
        pass
    return None


def _shapes(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> list[Mapping[str, Any]]:
    """Return the alternatives of a schema, references followed."""
    if depth > 8:
        return []
    if (reference := schema.get("$ref", "")).startswith("#/$defs/"):
        return _shapes(root.get("$defs", {}).get(reference[8:], {}), root, depth + 1)
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if alternatives:
        return [shape for option in alternatives for shape in _shapes(option, root, depth + 1)]
    return [schema]


def _named(types: Mapping[str, JobType]) -> dict[str, JobType]:
    """Return the job types that clients may name, by their names and aliases in small letters; the first has it."""
    found: dict[str, JobType] = {}
    for kind in types.values():
        if kind.public and kind.name != ARCHIVE:
            for name in (kind.name, *kind.aliases):
                found.setdefault(name.lower(), kind)
    return found
