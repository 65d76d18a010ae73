"""The documentation: it builds, it fetches nothing, and its commands and example are real."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.console import commands
from shared.jobs import JobStore, Notifications
from tests.fixtures.consumer import MODELS, running_consumer, tiff

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"(?:<!-- (\w+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


def lines() -> Iterator[tuple[str, str]]:
    """All command lines of the pages, with the page."""
    for page in PAGES:
        for _mark, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == "sh":
                for line in text.replace("\\\n", " ").splitlines():
                    if words := line.partition("  #")[0].partition(" #")[0].strip():
                        yield page.name, words


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # Not --quiet: with it MkDocs counts no warnings, and --strict means nothing.
    environment = {"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"(https?:[^\"]+)", text)
        loaded += re.findall(r"<link[^>]+rel=\"(?:stylesheet|preconnect|icon)\"[^>]+href=\"(https?:[^\"]+)", text)
        assert not loaded, f"{page.name} fetches {loaded}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_commands_in_the_documentation_are_understood() -> None:
    seen = list(lines())
    assert len(seen) > 25
    for page, line in seen:
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        problem = _misunderstood(words)
        assert not problem, f"{page}: {line}: {problem}"


def _misunderstood(words: list[str]) -> str:
    """Return why a command cannot be right; an empty text for other programs, which are not ours to judge."""
    if words[0] in ("./kiosk", "kiosk"):
        return _kiosk(words[1:])
    if words[0] == "make":
        target = next((word for word in words[1:] if "=" not in word), "help")
        known = re.findall(r"^([a-z/-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if target in known else f"there is no target {target}"
    if words[:2] in (["python", "-m"], [".venv/bin/python", "-m"]) and words[2].startswith(("services", "benchmarks")):
        return "" if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"
    return ""


def _kiosk(words: list[str]) -> str:
    try:
        if not words or words[0] == "simulate":
            return ""
        if words[0] in commands.CLIENT:
            from cellkiosk.cli import _parser

            _parser().parse_args(words)
        else:
            commands._parser(words[0]).parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        return f"it is refused ({error})" if str(error) != "0" else ""
    return ""


async def test_the_example_of_a_job_type_works(store: JobStore, notifications: Notifications, tmp_path: Path) -> None:
    page = (DOCS / "custom-job.md").read_text(encoding="utf-8")
    code = next(text for mark, _language, text in BLOCK.findall(page) if mark == "pipeline")
    path = tmp_path / "brightness.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("brightness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["brightness"] = module  # pydantic looks there for the types that annotations name
    spec.loader.exec_module(module)
    image = np.zeros((8, 8), np.uint16)
    image[:2] = 100
    pipelines = {"brightness": module.Brightness()}
    async with running_consumer(store, notifications, tmp_path, f"onnx://{MODELS}", pipelines) as consumer:
        job = await consumer.run("brightness", tiff(image), "x.tif", {"threshold": 0.5})
        assert (await consumer.result(job))["x.csv"].decode().split() == ["batch,channel,bright", "0,0,0.250000"]


def test_the_local_lock_is_part_of_the_development_lock() -> None:
    pinned = {}
    for name in ("local", "dev"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        pinned[name] = set(re.findall(r"^([a-zA-Z0-9_.-]+(?:\[[^]]*\])?==\S+)", text, re.MULTILINE))
        assert not re.search(r"https?://", text), "a lock names no addresses"
    assert pinned["local"] <= pinned["dev"], pinned["local"] - pinned["dev"]
