"""values.yaml, its schema, the templates and the services' settings say the same, checked in both directions."""

from __future__ import annotations

import copy
import functools
import importlib.util
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import jsonschema
import pytest
import yaml

from tests.fixtures.helm import CASES, CHART, ROOT, pod_specs, rendered, template

SERVICES = ("frontend", "consumer", "autoscaler", "janitor")
#: Reasons in helm/generate.py that mean: nothing in a cluster sets this.
ELSEWHERE = "not in a cluster"
Path_ = tuple[str, ...]


@functools.cache
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "helm" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


@functools.cache
def validator() -> Any:
    return jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))


def test_generated_files_are_up_to_date() -> None:
    stale = [path.name for path, text in generate().generated().items() if path.read_text() != text]
    assert not stale, "run: python helm/generate.py"


def test_every_value_is_explained() -> None:
    known = generate().entries((CHART / "values.yaml").read_text())
    silent = [".".join(path) for path, _ in generate().leaves(values()) if not known[path].about]
    assert not silent


@pytest.mark.parametrize("case", CASES)
def test_schema_accepts_the_cases(case: str) -> None:
    given = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    validator().validate(given)
    validator().validate(values())


def _groups(schema: dict[str, Any], path: Path_ = ()) -> Iterator[Path_]:
    """Every object of the schema that has fixed keys."""
    if "properties" in schema:
        yield path
        for name, inner in schema["properties"].items():
            yield from _groups(inner, (*path, name))


def _at(tree: Any, path: Path_) -> Any:
    return functools.reduce(lambda inner, key: inner[key], path, tree)


def test_schema_refuses_unknown_keys_everywhere() -> None:
    for path in _groups(validator().schema):
        wrong: Any = {"surprise": 1}
        for key in reversed(path):
            wrong = {key: wrong}
        assert not validator().is_valid(wrong), f"{'.'.join(path)}.surprise is accepted"


def test_schema_refuses_a_wrong_type_everywhere() -> None:
    for path, value in generate().leaves(values()):
        if value is None:
            continue
        wrong = copy.deepcopy(values())
        _at(wrong, path[:-1])[path[-1]] = (
            ["x", {}, ["y"]] if isinstance(value, dict | str | bool | int | float) else {"a": 1}
        )
        assert not validator().is_valid(wrong), ".".join(path)


@functools.cache
def environment(service: str) -> dict[str, str | None]:
    """What the chart gives a service in the case with the fewest things switched off."""
    return (
        _environment(service, "gke") | _environment(service, "keda")
        if service == "autoscaler"
        else _environment(service, "kind")
    )


def _environment(service: str, case: str) -> dict[str, str | None]:
    specs = pod_specs(rendered(case)).items()
    spec = next(spec for name, spec in specs if f"kiosk-cellkiosk-{service}" in name)
    return {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_reachable(service: str) -> None:
    """Each field of a service's settings has a variable in its container, or a reason why nobody sets it there."""
    module = generate()
    known = {each.variable: each.path for each in (*module.settings_of("shared"), *module.settings_of(service))}
    missing = {
        name
        for name, path in known.items()
        if name not in environment(service)
        and not module.BY_CHART.get(path, "").startswith((ELSEWHERE, "frontend.existingSecret"))
    }
    assert missing == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_read(service: str) -> None:
    module = generate()
    known = {each.variable for each in (*module.settings_of("shared"), *module.settings_of(service))}
    assert {name for name in environment(service) if name.startswith("KIOSK_")} <= known


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_takes_the_charts_values(service: str) -> None:
    """The settings loaded from the rendered environment are the defaults of the code but for what the chart sets."""
    module = generate()
    case = "gke" if service == "autoscaler" else "kind"
    given = {name: value for name, value in _environment(service, case).items() if value is not None}
    kind = importlib.import_module(f"services.{service}.settings").Settings
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KIOSK_")}
    with mock.patch.dict(os.environ, clean | given, clear=True):
        loaded = kind()
    with mock.patch.dict(os.environ, clean, clear=True):
        default = kind()
    differs = set()
    for each in (*module.settings_of("shared"), *module.settings_of(service)):
        if functools.reduce(getattr, each.path.split("."), loaded) != functools.reduce(
            getattr, each.path.split("."), default
        ):
            differs.add(each.path)
    set_by_case = {"kind": {"telemetry.log_format", "work.slots", "work.memory", "auth.anonymous"}, "gke": {"grace"}}
    assert differs <= set(module.BY_CHART) | set_by_case[case]


def test_targets_are_what_the_autoscaler_takes() -> None:
    from services.autoscaler.targets import Target

    targets = [
        Target.model_validate(each) for each in json.loads(_environment("autoscaler", "gke")["KIOSK_TARGETS"] or "")
    ]
    assert [t.name.removeprefix("kiosk-cellkiosk-") for t in targets] == [
        "consumer-images",
        "consumer-movies",
        "consumer-archives",
        "triton",
    ]
    assert targets[0].queues == {"segmentation": 1, "mesmer": 1, "polaris": 1}
    assert (targets[1].min_replicas, targets[1].max_replicas) == (0, 4)
    triton = targets[3]
    assert (triton.gpus_per_replica, triton.in_flight_port) == (1, 8002)
    assert triton.budget is not None
    assert triton.budget.money_per_day == 60


# --- no value unread: every value is given a mark, and the mark is looked for in what is rendered

Marks = dict[Path_, str]
#: Lists of objects, by the key that takes the mark.
OBJECTS = {
    "tolerations": "key",
    "extraEnv": "name",
    "parentRefs": "name",
    "frontendFrom": "key",
    "schedule": "timezone",
    "extraObjects": "kind",
}
#: Read only together with another choice; the case in which each is rendered is named there.
BASES: list[tuple[str, dict[str, Any]]] = [
    ("everything", {"storage.bucket": "", "storage.volume.existingClaim": "", "frontend.service.type": "NodePort"}),
    ("gke", {"triton.external.url": ""}),
    ("external", {"redis.external.existingSecret": "", "storage.bucket": ""}),
    ("external", {}),
    ("kind", {"storage.volume.existingClaim": "", "storage.bucket": "", "publicUrl": "", "fullnameOverride": ""}),
    ("kind", {"autoscaler.enabled": False}),
    (
        "keda",
        {
            "images.digests": {},
            "redis.existingSecret": "",
            "priorityClasses.serving": "",
            "priorityClasses.working": "",
        },
    ),
]


def _marked(number: int, path: Path_, value: Any) -> Any:
    word = f"zq{number}q"
    if isinstance(value, bool) or value is None or path[-1] == "pools":
        return None
    if isinstance(value, int | float):
        return 700_000 + number
    if isinstance(value, list):
        if path[-1] == "peers":
            return [{"publicKey": word, "address": word}]
        kind = _at(
            validator().schema["properties"], tuple(itertools.chain(*((key, "properties") for key in path)))[:-1]
        )
        item = kind.get("items", {}).get("type")
        return (
            [{OBJECTS[path[-1]]: word}] if path[-1] in OBJECTS else [700_000 + number] if item == "integer" else [word]
        )
    if path[-1] == "resources":
        return {"requests": {"memory": word}, "limits": {"memory": word}}
    if path[-1] == "digests":
        return {"frontend": word}
    return {word: 700_000 + number if path[-1] == "queues" else word} if isinstance(value, dict) else word


def _mark_of(marked: Any) -> str:
    if isinstance(marked, dict):
        key, value = next(iter(marked.items()))
        return key if key.startswith("zq") else _mark_of(value)
    if isinstance(marked, list):
        return _mark_of(marked[0] if not isinstance(marked[0], dict) else next(iter(marked[0].values())))
    return str(marked)


def _is_choice(path: Path_) -> bool:
    schema = _at(validator().schema["properties"], tuple(itertools.chain(*((key, "properties") for key in path)))[:-1])
    return "enum" in schema and path[-1] not in {
        "accessMode",
        "pullPolicy",
        "type",
        "serviceType",
        "appendfsync",
        "jobSeconds",
    }


def _everything_marked() -> tuple[dict[str, Any], Marks]:
    tree: dict[str, Any] = {}
    marks: Marks = {}
    for number, (path, value) in enumerate(generate().leaves(values())):
        marked = None if _is_choice(path) else _marked(number, path, value)
        # startSeconds becomes a number of tries; test_render looks at it.
        if marked is None or path in {("triton", "mode"), ("triton", "startSeconds")}:
            continue
        inner = tree
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = marked
        marks[path] = _mark_of(marked)
    return tree, marks


def test_no_value_is_unread(tmp_path: Path) -> None:
    tree, marks = _everything_marked()
    assert len(marks) > 150
    text = ""
    for case, kept in BASES:
        given = copy.deepcopy(tree)
        for path, value in kept.items():
            *head, last = path.split(".")
            _at(given, tuple(head))[last] = value
        file = tmp_path / f"{case}.yaml"
        file.write_text(yaml.safe_dump(given))
        text += json.dumps(template("--values", str(file), case=case, skip_schema=True))
    unread = {".".join(path) for path, mark in marks.items() if mark not in text}
    assert unread == set()


SWITCHES = [path for path, value in generate().leaves(values()) if isinstance(value, bool) and "settings" not in path]


# What has to go along with a switch: the chart refuses a Grafana without a Prometheus.
TOGETHER = {("observability", "prometheus", "enabled"): ["--set", "observability.grafana.enabled=false"]}


@pytest.mark.parametrize("path", SWITCHES, ids=".".join)
def test_every_switch_does_something(path: Path_) -> None:
    """Turned over, in one of the cases, each yes-or-no value changes what is rendered."""
    for case in ("everything", "gke", "kind"):
        given = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
        now = _found(given, path)
        extra = ["--set", "vpn.existingSecret=x,triton.external.url=grpc://x:1,redis.external.url=redis://x:1"]
        extra += TOGETHER.get(path, [])
        word = json.dumps(not (now if now is not None else _at(values(), path)))
        changed = template("--set", f"{'.'.join(path)}={word}", *extra, case=case)
        if _comparable(changed) != _comparable(template(*extra, case=case)):
            return
    pytest.fail(f"{'.'.join(path)} changes nothing")


def _found(tree: Any, path: Path_) -> Any:
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _comparable(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] != "Secret"]  # passwords are made anew each time
