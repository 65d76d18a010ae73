"""``kiosk`` alone in a terminal: a menu for people who would rather choose than type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.console import output

Run = Callable[[Sequence[str]], int]
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Entry:
    """One choice: its text, the command, and what is asked first (question, option or empty for a word by itself)."""

    text: str
    words: tuple[str, ...]
    questions: tuple[tuple[str, str], ...] = ()


ENTRIES = (
    Entry("Start the suite on this machine", ("up",)),
    Entry("See what runs and what waits", ("status",)),
    Entry("Analyse an image", ("submit",), (("Which file?", ""), ("Folder for the result?", "--out"))),
    Entry("Follow the logs", ("logs", "--follow")),
    Entry("Examine the suite", ("doctor",)),
    Entry("Benchmark", ("benchmark",), (("Which file?", ""), ("How many jobs?", "--count"))),
    Entry("Draw the results of benchmarks", ("benchmark", "report"), (("Which folder?", ""), ("Into which?", "--out"))),
    Entry("Make an API key", ("keys", "create"), (("What is it for?", ""),)),
    Entry("Forward a cluster's page and dashboards", ("forward",), (("Which namespace?", "--namespace"),)),
    Entry("Follow the logs of a cluster", ("logs", "--kubernetes", "--follow"), (("Which namespace?", "--namespace"),)),
    Entry("Examine what runs in a cluster", ("doctor", "--kubernetes"), (("Which namespace?", "--namespace"),)),
    Entry("See how a cluster is", ("cluster", "status"), (("Its name?", ""), ("Google Cloud project?", "--project"))),
    Entry("Create a cluster", ("cluster", "create"), (("Its name?", ""), ("Google Cloud project?", "--project"))),
    Entry("Destroy a cluster", ("cluster", "destroy"), (("Its name?", ""), ("Google Cloud project?", "--project"))),
    Entry(
        "Find what a cluster left behind",
        ("cluster", "clean"),
        (("Its name?", ""), ("Google Cloud project?", "--project")),
    ),
)


def choose(run: Run, ask: Ask = input) -> int:
    """Show the menu, carry out what is chosen, and show it again, until the user leaves."""
    while True:
        output.say("\nCellKiosk\n")
        for number, entry in enumerate(ENTRIES, 1):
            output.say(f"  {number:>2}  {entry.text}")
        output.say("   q  Leave\n")
        try:
            answer = ask("Which? ").strip().lower()
            if answer in ("q", "quit", "exit", ""):
                return 0
            words = _words(answer, ask)
            if words:
                output.say(f"\n$ kiosk {shlex.join(words)}\n")
                _carry_out(run, words)
                ask("\nEnter shows the menu again. ")  # or it would push what was just said off the screen
        except (EOFError, KeyboardInterrupt):
            output.say()
            return 0


def _carry_out(run: Run, words: Sequence[str]) -> None:
    try:
        run(words)
    except SystemExit:  # argparse has said what is wrong
        return
    except KeyboardInterrupt:
        output.say()


def _words(answer: str, ask: Ask) -> list[str]:
    """Return the command line of a choice; empty where it is none or a question was left open."""
    if not answer.isdigit() or not 1 <= int(answer) <= len(ENTRIES):
        output.say(f"{answer!r} is not on the menu: a number from 1 to {len(ENTRIES)}, or q.")
        return []
    entry = ENTRIES[int(answer) - 1]
    words = list(entry.words)
    for question, option in entry.questions:
        given = ask(f"{question} ").strip()
        if not given:
            return []
        words += [option, given] if option else [given]
    return words
