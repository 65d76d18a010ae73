"""The documentation: it builds, it fetches nothing, and its commands and example are real."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.console import commands
from shared.jobs import JobStore, Notifications
from tests.fixtures.consumer import MODELS, running_consumer, tiff
from tests.fixtures.docs import DOCS, PAGES, ROOT, Block, blocks, spans

#: Of shell blocks: run against a real suite (tests/e2e/suite), or only checked here.
MARKS = {"run", "checked", "cloud"}
LANGUAGES = {"sh", "text", "python", "yaml", "json", "csv", "ini", "toml", "{ .text .diagram }"}
COMMAND = re.compile(r"\s*(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:kiosk|make|python3?|kubectl|helm|docker|curl|pip|gcloud) ")
#: Words after which a text may say what somebody types: those of programs of ours.
OURS = re.compile(r"(?:\./)?(?:kiosk|make) [a-z]")


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


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


def test_every_command_says_what_tests_do_with_it() -> None:
    for block in all_blocks():
        assert block.language, f"{block} is indented: fence it"
        assert block.language in LANGUAGES, f"{block} is in the unknown language {block.language!r}"
        if block.language == "sh":
            assert block.mark in MARKS, f"{block} is marked {block.mark!r}; one of {MARKS} must stand before it"
        else:
            hidden = next((line for line in block.text.splitlines() if COMMAND.match(line)), "")
            assert not hidden, f"{block} is no sh block and holds the command {hidden!r}"


def test_a_command_without_a_mark_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text\n\n    make run\n\n<!-- run -->\n```sh\nmake run\n```\n\n```sh\nA=1 make test  # it\n```\n")
    found = list(blocks(page))
    assert [(block.language, block.mark) for block in found] == [("", ""), ("sh", "run"), ("sh", "")]
    assert list(found[2].commands()) == [["make", "test"]]


def test_commands_in_the_documentation_are_understood() -> None:
    shell = [block for block in all_blocks() if block.language == "sh"]
    assert len(shell) > 40
    for block in shell:
        for words in block.commands():
            problem = _misunderstood(words)
            assert not problem, f"{block}: {shlex.join(words)}: {problem}"


def test_commands_within_texts_are_understood() -> None:
    seen = [(page, text) for page in PAGES for text in spans(page) if OURS.match(text) and "…" not in text]
    assert len(seen) > 25
    for page, text in seen:
        words = shlex.split(text)
        problem = _misunderstood(words)
        assert not problem or _names_options(words), f"{page.name}: `{text}`: {problem}"


def _names_options(words: list[str]) -> bool:
    """Tell whether this is no whole command, and names options that there are: `kiosk cluster create --gpus`."""
    plain = [word for word in words[1:] if not word.startswith("-")]
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        commands.main([*plain, "--help"])
    return all(word in told.getvalue() for word in words if word.startswith("-"))


def test_python_in_the_documentation_is_python() -> None:
    for block in all_blocks():
        if block.language == "python":
            compile(block.text, str(block), "exec")


def _misunderstood(words: list[str]) -> str:
    """Return why a command cannot be right; an empty text where it can, as far as that is ours to judge."""
    program = Path(words[0]).name
    if program == "kiosk":
        return _kiosk(words[1:])
    if program == "make":
        target = next((word for word in words[1:] if "=" not in word), "help")
        known = re.findall(r"^([a-z/-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if target in known else f"there is no target {target}"
    if program == "python" and words[1] == "-m" and words[2].startswith(("services", "benchmarks")):
        return _module(words[2], words[3:])
    if "--" in words and "kiosk" in words:  # within a pod
        return _kiosk(words[words.index("kiosk", words.index("--")) + 1 :])
    paths = [word for word in words if re.match(r"(helm|services|tests|requirements|docs)/[^$]+$", word)]
    missing = next((path for path in paths if not (ROOT / path).exists()), "")
    return f"there is no {missing}" if missing else ""


def _module(name: str, words: list[str]) -> str:
    """Look for a module, and for the options in its source: to ask it for them would take seconds for each."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return f"there is no module {name}"
    origin = Path(found.origin)
    sources = list(origin.parent.glob("*.py")) if origin.name in ("__init__.py", "__main__.py") else [origin]
    # What several scripts of a folder are told is read by a module that they share.
    shared = [path for path in origin.parent.glob("report.py") if path not in sources]
    text = "".join(path.read_text(encoding="utf-8") for path in (*sources, *shared))
    options = [word for word in words if word.startswith("--") and word != "--help"]
    missing = next((word for word in options if f'"{word}"' not in text), "")
    return f"{name} has no option {missing}" if missing else ""


def _kiosk(words: list[str]) -> str:
    words = list(itertools.takewhile(lambda word: word not in ("|", "&&", "||", ";"), words))
    try:
        if not words or words[0] == "simulate":
            return ""
        if words[0] in commands.CLIENT:
            from cellkiosk.cli import parser

            parser().parse_args(words)
        else:
            commands._parser(words[0]).parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        return f"it is refused ({error})" if str(error) != "0" else ""
    return ""


async def test_the_example_of_a_job_type_works(store: JobStore, notifications: Notifications, tmp_path: Path) -> None:
    code = next(block.text for block in blocks(DOCS / "custom-job.md") if block.mark == "pipeline")
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
