"""The commands that look into a cluster do so through ``kubectl``, which knows how to log in to each of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from shared.errors import Misconfigured, Retry

#: What all pods of the chart carry, and the label that names their part.
SELECTOR = "app.kubernetes.io/part-of=cellkiosk"
COMPONENT = "app.kubernetes.io/component"


def program() -> str:
    """Return the path of kubectl.

    Raises:
        Misconfigured: there is none.
    """
    found = shutil.which("kubectl")
    if found is None:
        raise Misconfigured("This looks into a cluster and needs the program kubectl, which is not on PATH here.")
    return found


def words(namespace: str = "", context: str = "") -> list[str]:
    """Return the beginning of a command line."""
    chosen = [program()]
    if context:
        chosen += ["--context", context]
    return chosen + (["--namespace", namespace] if namespace else [])


def read(*asked: str, begin: Sequence[str] = ()) -> Any:
    """Return what kubectl answers, as JSON; ``begin`` is what `words` gave.

    Raises:
        Retry: the cluster does not answer, or refuses; kubectl's own sentence is passed on.
    """
    done = run(*asked, "--output", "json", begin=begin)
    if done.returncode:
        raise Retry(f"The cluster cannot be asked: {sentence(done.stderr.splitlines()) or 'kubectl failed'}")
    return json.loads(done.stdout)


def run(*asked: str, begin: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run kubectl to its end, whatever it answers."""
    return subprocess.run([*(begin or words()), *asked], capture_output=True, text=True, check=False)


def sentence(lines: Sequence[str]) -> str:
    """Return what kubectl said last, without the lines of its library's log before it."""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("error: ") if said else ""
