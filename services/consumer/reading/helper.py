"""The process that decodes: one request a line on standard input, one answer a line on standard output.

It runs beside the worker so that a crash, a runaway or a bomb in a file takes nothing else with it. It limits
itself before it reads anything, gets no environment worth stealing, and ends with its standard input.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from services.consumer.reading.formats import decode
from services.consumer.reading.limits import MEMORY, ReadLimits
from shared.errors import InvalidInput

# Bytes of the interpreter and its libraries, code and data.
_OWN = 1 << 30
# Files open at once.
_FILES = 64


def main(arguments: list[str]) -> int:
    """Serve requests until standard input ends.

    Args:
        arguments: the limits and the seconds of processor time for each file, as JSON.
    """
    setup = json.loads(arguments[0])
    limits = ReadLimits(**setup["limits"])
    _bound(limits)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = _private_output()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        _allow_seconds(setup["seconds"])
        answers.write(json.dumps(_answer(json.loads(line), limits)) + "\n")
        answers.flush()
    return 0


def _bound(limits: ReadLimits) -> None:
    """Limit memory: what is allocated closely, what is mapped (files too) loosely; no core files, few open files."""
    data = limits.bytes + _OWN
    written = 8 * limits.pixels + (1 << 20)
    wanted = (
        (resource.RLIMIT_DATA, data),
        (resource.RLIMIT_AS, data + 2 * written),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, most in wanted:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # Some systems (macOS) do not know every limit; the time limit still holds there.
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            continue


def _allow_seconds(seconds: float) -> None:
    """Allow so much processor time from now on; the kernel ends the process after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _private_output() -> TextIO:
    """Keep standard output for answers; what libraries print about files from now on goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    return answers


def _answer(request: dict[str, str], limits: ReadLimits) -> dict[str, Any]:
    target, began = Path(request["target"]), time.process_time()
    tempfile.tempdir = str(target.parent)  # what a process leaves there that is killed goes with the job
    try:
        decoded = decode(Path(request["source"]), target, limits, request["dimension_order"])
    except InvalidInput as error:
        answer: dict[str, Any] = {"invalid": str(error), "code": error.code, "detail": repr(error.__cause__)[:500]}
    except FileNotFoundError:
        answer = {"invalid": "The file is no longer there; upload it again.", "code": "input-gone"}
    except MemoryError:
        answer = {
            "invalid": f"Decoding the file takes more memory than {limits.bytes:,} bytes (setting {MEMORY}).",
            "code": "too-large",
        }
    except Exception as error:  # noqa: BLE001  # whatever a library raises on a file made to break it
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            answer = {"full": True}
        else:
            answer = {
                "invalid": "The file is damaged, or of a variant of its format that is not supported.",
                "code": "damaged",
                "detail": repr(error)[:500],
            }
    else:
        spent = time.process_time() - began
        return {"decoded": asdict(decoded) | {"path": str(decoded.path), "cpu_seconds": spent}}
    target.unlink(missing_ok=True)
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
