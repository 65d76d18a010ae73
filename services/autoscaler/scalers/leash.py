"""``python -m services.autoscaler.scalers.leash PARENT COMMAND…``: a program that ends when its parent does.

The local scaler starts its workers through this, so that none outlives a scaler that was killed. Where the kernel
cannot do it (macOS), the program runs without.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the tie was made
            sys.exit(0)
    os.execvp(command[0], command)  # noqa: S606  # the point of this module


if __name__ == "__main__":
    main()
