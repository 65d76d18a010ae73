"""Completion of the ``kiosk`` command in bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Mapping

_BASH = """\
_kiosk() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    local options=
    case $command in
{cases}
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _kiosk kiosk
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def script(shell: str, commands: Mapping[str, list[str]]) -> str:
    """Return what the shell is to evaluate.

    Args:
        shell: bash, zsh or fish.
        commands: their options.
    """
    if shell == "fish":
        lines = [f"complete -c kiosk -n __fish_use_subcommand -f -a {name}" for name in commands]
        for name, options in commands.items():
            lines += [
                f"complete -c kiosk -n '__fish_seen_subcommand_from {name}' -l {option.removeprefix('--')}"
                for option in options
            ]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f'        {name}) options="{" ".join(options)}" ;;' for name, options in commands.items())
    text = _BASH.format(commands=" ".join(commands), cases=cases)
    return _ZSH + text if shell == "zsh" else text
