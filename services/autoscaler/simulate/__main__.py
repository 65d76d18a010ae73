"""``python -m services.autoscaler.simulate``: see `main`."""

import sys

from services.autoscaler.simulate.command import main

sys.exit(main(sys.argv[1:]))
