"""What can be said of the containers without building them: lint, pins, users, and that each lock file is enough."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.helm import ROOT

SERVICES = ("frontend", "consumer", "autoscaler", "janitor", "triton", "console")
PYTHON_SERVICES = ("frontend", "consumer", "autoscaler", "janitor", "console")


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_hadolint_finds_nothing(service: str) -> None:
    tool = Path(sys.executable).with_name("hadolint")
    path = ROOT / "services" / service / "Dockerfile"
    done = subprocess.run([tool, "--no-color", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_base_is_pinned_and_user_is_not_root(service: str) -> None:
    text = dockerfile(service)
    assert re.search(r"^ARG PYTHON=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    for label in ("title", "description", "source", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last
    assert re.search(r'^ENTRYPOINT \["python"', last, re.MULTILINE), "Python is process 1: no shell between"


@pytest.mark.parametrize("service", SERVICES)
def test_all_that_is_copied_exists_and_is_let_into_the_context(service: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(service), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(each) or source.startswith(f"{each}/") for each in allowed), source


def test_locks_are_up_to_date_with_pyproject() -> None:
    """Each extra's own needs are in its lock, in the version that dev.txt has, which is what the tests run with."""
    versions = _locked("dev")
    sys.path.insert(0, str(ROOT / "requirements"))
    try:
        import lock
    finally:
        sys.path.pop(0)
    for name in PYTHON_SERVICES:
        locked = _locked(name)
        for need in lock.needs(name):
            package = re.match(r"[A-Za-z0-9._-]+", need)
            assert package
            assert package[0].lower() in locked, f"{name}: run python requirements/lock.py"
        assert {each: version for each, version in locked.items() if versions.get(each) != version} == {}


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE))


#: Runs a service's module with nothing importable but Python, the tree that its Dockerfile copies and its lock.
GUARD = """
import importlib.metadata, json, runpy, sys
locked, folders, module = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
owners = importlib.metadata.packages_distributions()
normal = lambda name: name.lower().replace("_", "-").replace(".", "-")
def refused(name):
    top = name.partition(".")[0]
    if top == "services":
        return name.count(".") and name.split(".")[1] not in folders
    if top in ("cellkiosk", "tests", "benchmarks"):
        return top not in folders
    return top in owners and not any(normal(each) in locked for each in owners[top])
class Guard:
    def find_spec(self, name, path=None, target=None):
        if refused(name):
            raise ModuleNotFoundError(f"{name} is not in this container", name=name)
sys.meta_path.insert(0, Guard())
sys.argv = [module]
runpy.run_module(module, run_name="imported")
"""


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_its_own_extra_is_enough(service: str) -> None:
    """Every module of the service is imported as in its container."""
    folders = re.findall(r"^COPY (?:services/)?(\w+) ", dockerfile(service), re.MULTILINE)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "services" / service).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    script = GUARD.replace(
        'runpy.run_module(module, run_name="imported")',
        "import importlib\nfor name in module.split(','):\n    importlib.import_module(name)",
    )
    # What the autoscaler's folder holds for the console alone is never imported in its own container.
    elsewhere = ("__main__", "services.autoscaler.simulate")
    names = [each for each in modules if not each.endswith(elsewhere[0]) and not each.startswith(elsewhere[1])]
    words = [json.dumps(sorted(_locked(service))), json.dumps(folders), ",".join(names)]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_guard_would_notice() -> None:
    """The same with scipy, which the frontend's container does not have."""
    script = GUARD.replace('runpy.run_module(module, run_name="imported")', "import scipy")
    words = [json.dumps(sorted(_locked("frontend"))), "[]", "x"]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "scipy is not in this container" in done.stderr


def test_bill_of_materials_names_what_is_installed() -> None:
    words = ["requirements/sbom.py", "frontend", "requirements/frontend.txt", str(Path(yaml.__file__).parents[1])]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["bomFormat"] == "CycloneDX"
    aiohttp = next(each for each in document["components"] if each["name"] == "aiohttp")
    assert aiohttp["purl"] == f"pkg:pypi/aiohttp@{_locked('frontend')['aiohttp']}"
    assert aiohttp["properties"][0]["name"] == "cellkiosk:locked-sha256"


def test_compose_names_what_exists() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
            assert service["image"] == f"cellkiosk/{name}"
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("service", ["frontend", "consumer", "janitor"])
def test_compose_sets_only_settings_that_exist(service: str) -> None:
    import importlib

    environment = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]["environment"]
    fields = importlib.import_module(f"services.{service}.settings").Settings.model_fields
    for name in environment:
        path = name.removeprefix("KIOSK_").lower().split("__")
        assert path[0] in fields, name
        if len(path) > 1:
            assert path[1] in fields[path[0]].annotation.model_fields, name
