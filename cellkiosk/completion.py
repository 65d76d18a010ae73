"""Completion of the ``kiosk`` command in bash, zsh and fish."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

_BASH = """\
_kiosk() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    local options= actions=
    case $command in
{cases}
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -W "$actions" -- "$word")) ;;
    esac
}}
complete -o filenames -F _kiosk kiosk
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def words_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return what may follow each command of a parser: its options and its actions, and the options of these."""
    return {name: list(dict.fromkeys(_words(one))) for name, one in _below(parser).items()}


def _words(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001  # argparse tells it nowhere else
        yield from (word for word in action.option_strings if word.startswith("--"))
    for name, one in _below(parser).items():
        yield name
        yield from _words(one)


def _below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found: Mapping[str, argparse.ArgumentParser] = action.choices
            return found
    return {}


def script(shell: str, commands: Mapping[str, list[str]]) -> str:
    """Return what the shell is to evaluate.

    Args:
        shell: bash, zsh or fish.
        commands: what may follow each, as ``words_of`` tells it.
    """
    if shell == "fish":
        lines = [f"complete -c kiosk -n __fish_use_subcommand -f -a {name}" for name in commands]
        for name, words in commands.items():
            lines += [f"complete -c kiosk -n '__fish_seen_subcommand_from {name}' {_fish(word)}" for word in words]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f"        {name}) {_variables(words)} ;;" for name, words in commands.items())
    text = _BASH.format(commands=" ".join(commands), cases=cases)
    return _ZSH + text if shell == "zsh" else text


def _fish(word: str) -> str:
    return f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-a {word}"


def _variables(words: list[str]) -> str:
    options = " ".join(word for word in words if word.startswith("--"))
    actions = " ".join(word for word in words if not word.startswith("--"))
    return f'options="{options}" actions="{actions}"'
