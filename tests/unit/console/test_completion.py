"""The completion that the operator's command prints: of its own commands and of the client's."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from services.console.commands import CLIENT, COMMANDS, main


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("kiosk sta", ["status"]),
        ("kiosk keys rev", ["revoke"]),
        ("kiosk keys create --ow", ["--owner"]),
        ("kiosk submit --pri", ["--priority"]),
    ],
)
def test_what_bash_offers(capsys: pytest.CaptureFixture[str], typed: str, offered: list[str]) -> None:
    assert main(["completion", "bash"]) == 0
    words = typed.split()
    asked = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _kiosk; echo ${{COMPREPLY[@]}}"
    script = f"{capsys.readouterr().out}\n{asked}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.split() == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_offered(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert {name for name in (*CLIENT, *(command.name for command in COMMANDS)) if name not in told} == set()
