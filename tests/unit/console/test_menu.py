"""The menu, with a user who is a list of answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.console import commands
from services.console.menu import ENTRIES, choose


def play(*answers: str) -> list[list[str]]:
    called: list[list[str]] = []
    left = iter(answers)

    def run(words: Sequence[str]) -> int:
        called.append(list(words))
        return 0

    def ask(_question: str) -> str:
        try:
            return next(left)
        except StopIteration as error:
            raise EOFError from error

    assert choose(run, ask) == 0
    return called


def test_choices_become_commands() -> None:
    assert play("2", "", "3", "cells.tif", "out", "", "q", "2") == [["status"], ["submit", "cells.tif", "--out", "out"]]


def test_what_is_not_on_the_menu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert play("99", "tea", "3", "", "q") == []
    assert "'99' is not on the menu" in capsys.readouterr().out


def test_the_end_of_the_input_leaves() -> None:
    assert play("2") == [["status"]]


def test_a_command_that_refuses_its_words_does_not_end_the_menu() -> None:
    answers = iter(["1", "", "q"])

    def refuse(_words: Sequence[str]) -> int:
        raise SystemExit(2)

    assert choose(refuse, lambda _question: next(answers)) == 0


def test_every_entry_is_a_command() -> None:
    known = {command.name for command in commands.COMMANDS} | set(commands.CLIENT)
    assert {entry.words[0] for entry in ENTRIES} <= known


def test_what_looks_into_a_cluster_asks_for_the_namespace() -> None:
    for entry in ENTRIES:
        if "--kubernetes" in entry.words or entry.words == ("forward",):
            assert [option for _question, option in entry.questions] == ["--namespace"], entry.text
