"""Write what follows from other files: ``python helm/generate.py`` (``--check``: only say what is out of date).

From the services' ``settings.py`` the ``settings`` blocks of ``values.yaml``; from ``values.yaml`` with its comments
``values.schema.json`` and the chart's ``README.md``. So a new setting is in the chart by running this once.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import importlib.util
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

CHART = Path(__file__).resolve().parent / "cellkiosk"
ROOT = CHART.parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

SERVICES = ("frontend", "consumer", "autoscaler", "janitor")

#: Settings that the templates set themselves, and from what; these have no value of their own.
BY_CHART: dict[str, str] = {
    "name": "the pod's name",
    "redis.url": "redis.*",
    "storage.url": "storage.*",
    "health.host": "always every address of the pod",
    "health.port": "always 9090",
    "host": "always every address of the pod",
    "port": "always 8080",
    "public_url": "publicUrl, frontend.ingress, frontend.gateway",
    "scratch": "consumer.defaults.scratchSize",
    "model_server.url": "triton.*",
    "work.types": "consumer.pools[].types",
    "auth.secret": "frontend.existingSecret",
    "webhooks.secret": "frontend.existingSecret",
    "scaler": "autoscaler.keda.enabled",
    "targets": "consumer.pools, consumer.defaults.autoscaling, triton.autoscaling",
    "local.command": "not in a cluster: worker processes on one machine",
    "local.first_pause": "not in a cluster",
    "local.longest_pause": "not in a cluster",
    "local.settled": "not in a cluster",
    "kubernetes.namespace": "the release's namespace",
    "kubernetes.kubeconfig": "not in a cluster: the pod's service account",
    "kubernetes.lease": "the release's name",
    "keda.host": "always every address of the pod",
    "keda.port": "always 6000",
    "pods.watch": "always, since there are pods",
    "pods.namespace": "the release's namespace",
    "pods.kubeconfig": "not in a cluster: the pod's service account",
}
#: Fields of a scaling target that the templates set themselves.
TARGET_BY_CHART = ("name", "kind", "in_flight_port", "gpus_per_replica")
#: Where the chart's default differs from the code's: a consumer tells its job types when it starts, so that one is
#: always wanted; a GPU node takes minutes to come and is paid by the minute.
DIFFERENT: dict[tuple[str, str], Any] = {
    ("consumer", "min_replicas"): 1,
    ("triton", "jobs_per_replica"): 64.0,
    ("triton", "max_replicas"): 4,
    ("triton", "cooldown"): 600.0,
}


@dataclass(frozen=True)
class Setting:
    """One field of a service's settings."""

    path: str
    default: Any
    about: str
    schema: dict[str, Any]

    @property
    def variable(self) -> str:
        return "KIOSK_" + self.path.upper().replace(".", "__")


@functools.cache
def settings_of(service: str) -> list[Setting]:
    """Return all settings of a service but those of `shared`, which are those every service has."""
    if service == "shared":
        from shared.settings import ServiceSettings

        return list(_walk(ServiceSettings))
    common = {each.path for each in settings_of("shared")}
    if service == "target":
        from services.autoscaler.targets import Target

        return [each for each in _walk(Target) if each.path not in TARGET_BY_CHART]
    kind = importlib.import_module(f"services.{service}.settings").Settings
    return [each for each in _walk(kind) if each.path not in common]


def _walk(kind: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    about = _docstrings(kind)
    for name, field in kind.model_fields.items():
        path = prefix + name
        default = field.get_default(call_default_factory=field.default_factory is not None, validated_data={})
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{path}.")
        else:
            plain = json.loads(json.dumps(default, default=_plain))
            yield Setting(path, plain, about.get(name, field.description or ""), _schema_of(kind, name))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return (
        sorted(value)
        if isinstance(value, set | frozenset)
        else ""
        if hasattr(value, "get_secret_value")
        else str(value)
    )


def _docstrings(kind: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not issubclass(each, BaseModel) or each.__module__.startswith("pydantic"):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[ast.unparse(before.target)] = " ".join(str(after.value.value).split())
            elif isinstance(before, ast.AnnAssign) and "Field(" in ast.unparse(before):
                found.setdefault(ast.unparse(before.target), "")
    return {name: text for name, text in found.items() if text}


def _schema_of(kind: type[BaseModel], name: str) -> dict[str, Any]:
    whole = _whole_schema(kind)
    return _resolved(whole["properties"][name], whole.get("$defs", {}))


@functools.cache
def _whole_schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema with its references put in place, and without titles and defaults, which the values give."""
    if isinstance(schema, list):
        return [_resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    drop = ("title", "default", "description", "format", "writeOnly")
    return {
        key: {k: _resolved(v, definitions) for k, v in value.items()}
        if key == "properties"
        else _resolved(value, definitions)
        for key, value in schema.items()
        if key not in drop
    }


# --- the settings blocks of values.yaml


def with_settings(text: str) -> str:
    """Return values.yaml with its ``settings`` blocks written anew."""
    pattern = re.compile(r"^( *)# BEGIN settings: (\w+)\n.*?^ *# END settings: \2\n", re.MULTILINE | re.DOTALL)

    def block(found: re.Match[str]) -> str:
        part = re.findall(r"^(\w+):", text[: found.start()], re.MULTILINE)[-1]
        return _block(found[2], part, found[1])

    return pattern.sub(block, text)


def _block(service: str, part: str, indent: str) -> str:
    by_chart = () if service == "target" else BY_CHART
    own = [_ours(each, part) for each in settings_of(service) if each.path not in by_chart]
    lines = [f"# BEGIN settings: {service}", *_lines(own, ""), f"# END settings: {service}"]
    return "".join(f"{indent}{line}\n" for line in lines)


def _ours(setting: Setting, part: str) -> Setting:
    """Return a setting with the chart's default where that differs."""
    return replace(setting, default=DIFFERENT.get((part, setting.path), setting.default))


def _lines(settings: list[Setting], prefix: str) -> Iterator[str]:
    depth = "  " * prefix.count(".")
    groups: dict[str, list[Setting]] = {}
    for each in settings:
        rest = each.path.removeprefix(prefix)
        groups.setdefault(rest.partition(".")[0], []).append(each)
    for name, members in groups.items():
        if members[0].path == prefix + name:
            about = members[0].about or "See the service's settings.py."
            yield from (f"{depth}# {line}" for line in textwrap.wrap(about, 104))
            yield f"{depth}{name}: {json.dumps(members[0].default, ensure_ascii=False)}"
        else:
            yield f"{depth}{name}:"
            yield from _lines(members, f"{prefix}{name}.")


# --- the schema


@dataclass
class Entry:
    """One key of values.yaml: where it is, what is said of it, and what the schema is told besides."""

    path: tuple[str, ...]
    about: str
    extra: dict[str, Any]


def entries(text: str) -> dict[tuple[str, ...], Entry]:
    """Read the keys of values.yaml with the comments above them."""
    found: dict[tuple[str, ...], Entry] = {}
    stack: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if not bare:
            comment = []
        elif bare.startswith("#"):
            if not re.match(r"# (BEGIN|END) settings", bare):
                comment.append(bare[1:].strip())
        elif match := re.match(r"^( *)([A-Za-z_][\w.-]*):", line):
            indent = len(match[1])
            stack = [(i, k) for i, k in stack if i < indent] + [(indent, match[2])]
            path = tuple(key for _, key in stack)
            notes = [c.removeprefix("@schema") for c in comment if c.startswith("@schema")]
            extra = json.loads(notes[0]) if notes else {}
            found[path] = Entry(path, " ".join(c for c in comment if not c.startswith("@schema")), extra)
            comment = []
    return found


def schema(text: str) -> dict[str, Any]:
    """Return the strict schema of the values."""
    values = yaml.safe_load(text)
    known = entries(text)
    settings = {("settings",): settings_of("shared"), ("consumer", "defaults", "settings"): settings_of("consumer")}
    settings |= {(name, "settings"): settings_of(name) for name in SERVICES if name != "consumer"}
    settings |= {
        at: settings_of("target")
        for at in (("consumer", "defaults", "autoscaling", "target"), ("triton", "autoscaling", "target"))
    }
    whole = _schema((), values, known, {(*at, *s.path.split(".")): s for at, all_ in settings.items() for s in all_})
    consumer = whole["properties"]["consumer"]["properties"]
    pool = dict(consumer["defaults"]["properties"])
    pool |= {
        "name": {
            "type": "string",
            "pattern": "^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$",
            "description": "Of the pool's objects.",
        },
        "types": {"type": "array", "items": {"type": "string"}, "description": "Job types; empty: all."},
    }
    consumer["pools"]["items"] = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": pool,
    }
    for part in (
        "frontend",
        "consumer",
        "autoscaler",
        "janitor",
        "console",
        "triton",
        "redis",
        "observability",
        "logging",
        "vpn",
    ):
        whole["properties"][part]["properties"]["global"] = {"type": "object"}  # Helm puts it there itself
    whole["properties"]["global"] = {"type": "object", "description": "Not read; Helm and parent charts put it there."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of cellkiosk", **whole}


def _schema(
    path: tuple[str, ...],
    value: Any,
    known: Mapping[tuple[str, ...], Entry],
    settings: Mapping[tuple[str, ...], Setting],
) -> dict[str, Any]:
    entry = known.get(path)
    about = {"description": entry.about} if entry and entry.about else {}
    if path in settings:
        return about | settings[path].schema
    extra = entry.extra if entry else {}
    if isinstance(value, dict) and path and path[-1] == "resources":
        return about | {
            "$comment": "as in a container",
            "type": "object",
            "additionalProperties": False,
            "properties": {k: {"type": "object"} for k in ("requests", "limits", "claims")},
        }
    if isinstance(value, dict) and not extra:
        inner = {k: _schema((*path, k), v, known, settings) for k, v in value.items()}
        return about | {"type": "object", "additionalProperties": False, "properties": inner}
    return about | {"type": _type(value)} | extra


def _type(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


# --- the README


def readme(text: str) -> str:
    """Return the chart's README: its fixed part and the table of all values."""
    known = entries(text)
    rows = [
        f"| `{'.'.join(path)}` | {_code(value)} | {_about(known, path)} |"
        for path, value in leaves(yaml.safe_load(text))
    ]
    head = (CHART / "README.head.md").read_text(encoding="utf-8")
    return head + "\n## Values\n\n| value | default | what |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value that is no group, with its path."""
    if isinstance(values, dict) and values and not (path and path[-1] in {"resources", "selector"}):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, values


def _about(known: Mapping[tuple[str, ...], Entry], path: tuple[str, ...]) -> str:
    return known[path].about.replace("|", "\\|") if path in known else ""


def _code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def main() -> int:
    """Write or check the files; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is out of date")
    check = parser.parse_args().check
    stale = [
        path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        sys.stdout.write(f"{path.relative_to(ROOT)} {'is out of date' if check else 'written'}\n")
        if not check:
            path.write_text(generated()[path], encoding="utf-8")
    return 1 if check and stale else 0


def generated() -> dict[Path, str]:
    """Return each generated file with the text that it should have."""
    values = with_settings((CHART / "values.yaml").read_text(encoding="utf-8"))
    import dashboards
    import events

    boards = CHART / "files" / "dashboards"
    return {
        **{boards / f"{name}.json": json.dumps(board, indent=1) + "\n" for name, board in dashboards.boards().items()},
        ROOT / "docs" / "events.md": events.page(),
        CHART / "values.yaml": values,
        CHART / "values.schema.json": json.dumps(schema(values), indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(values),
    }


if __name__ == "__main__":
    sys.exit(main())
