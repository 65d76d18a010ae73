"""``python -m services.console``, which is what the launcher ``kiosk`` becomes."""

from __future__ import annotations

import sys

from services.console.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
