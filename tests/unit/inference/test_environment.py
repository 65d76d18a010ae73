"""Where Triton cannot run, and what the launcher would start."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from services.triton import environment
from services.triton.__main__ import command

Version = namedtuple("Version", "major minor micro")


def refuse_to_install(*_words: object, **_more: object) -> None:
    raise AssertionError("nothing may be installed here")


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_run", refuse_to_install)


def test_other_systems_are_told_that_models_run_in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(environment.Unavailable, match="Linux on x86-64 only; models run in process here"):
        environment.make(tmp_path / "venv")


def test_another_processor_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(environment.Unavailable, match="x86-64"):
        environment.make(tmp_path / "venv")


@pytest.mark.parametrize("libc", [("glibc", "2.31"), ("", "")])
def test_an_old_c_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, libc: tuple[str, str]) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(environment.Unavailable, match=r"needs glibc 2\.35 or newer"):
        environment.make(tmp_path / "venv")


def test_a_newer_python_looks_for_one_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 14, 0))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "3.14.0"))
    with pytest.raises(environment.Unavailable, match=r"needs Python 3\.11 or 3\.12 beside this Python"):
        environment.make(tmp_path / "venv")
    good, bad = program(tmp_path / "python3.11", 0), program(tmp_path / "python3.12", 127)
    monkeypatch.setattr(shutil, "which", {"python3.11": good, "python3.12": bad}.get)
    assert environment._find_python() == good


def test_a_name_that_only_complains_is_no_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As pyenv puts python3.12 on PATH while another version is chosen; the real one lies beside ours."""
    monkeypatch.setattr(sys, "version_info", Version(3, 13, 0))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "3.13.0"))
    monkeypatch.setattr(shutil, "which", {"python3.12": program(tmp_path / "shims" / "python3.12", 127)}.get)
    real = program(tmp_path / "3.12.1" / "bin" / "python3.12", 0)
    assert environment._find_python() == real


def program(path: Path, code: int) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_command_exits_with_the_code_that_the_supervisor_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIOSK_TRITON_VENV", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "platform", "win32")
    assert environment.main() == environment.UNAVAILABLE
    assert "Linux" in capsys.readouterr().err


def test_an_environment_of_an_older_lock_file_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    assert not environment.is_ready(folder)
    folder.mkdir()
    environment.Environment(folder).stamp.write_text("other")
    assert not environment.is_ready(folder)
    environment.Environment(folder).stamp.write_text(environment._fingerprint())
    assert environment.is_ready(folder)
    assert environment.make(folder).folder == folder


def test_the_servers_own_python_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    found = environment.variables(environment.Environment(tmp_path))
    assert found["PATH"].startswith(f"{tmp_path}/bin:")
    assert found["PYTHONPATH"] == str(environment.ROOT)
    assert "PYTHONHOME" not in found


def test_every_repository_is_handed_to_the_server(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    options = argparse.Namespace(
        repository=["one", "gs://bucket/two"],
        host="0.0.0.0",
        grpc_port=1,
        http_port=2,
        metrics_port=3,
        grace=4,
        verbose=0,
    )
    words = command(environment.Environment(tmp_path), options)
    assert [w for w in words if w.startswith("--model-repository")] == [
        "--model-repository=one",
        "--model-repository=gs://bucket/two",
    ]
    assert {"--grpc-port=1", "--http-port=2", "--metrics-port=3", "--exit-timeout-secs=4"} <= set(words)
    assert "--model-control-mode=explicit" in words
