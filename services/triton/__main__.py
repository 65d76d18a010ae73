"""``python -m services.triton``: start the real Triton server, in the place of this process.

The server takes over the process (exec), so its signals and its id are those of whoever started this; a small
watcher beside it makes it load what is put into the repository, and ends with it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from services.triton import environment, watch
from shared.errors import Misconfigured

MODELS = Path(__file__).parent / "models"


def main() -> int:
    """Become the server; returns an exit code where that is not possible."""
    options = _options()
    try:
        place = environment.make()
    except environment.Unavailable as error:
        print(error, file=sys.stderr)
        return environment.UNAVAILABLE
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return 2
    return _become_server(place, options)


def _become_server(place: environment.Environment, options: argparse.Namespace) -> NoReturn:
    if options.watch_seconds:
        host = "127.0.0.1" if options.host == "0.0.0.0" else options.host  # noqa: S104 compared, not bound
        care = watch.Care(
            server=f"http://{host}:{options.http_port}",
            metrics=f"http://{host}:{options.metrics_port}/metrics",
            every=options.watch_seconds,
            hung=options.hung_seconds,
            load=options.load_seconds,
            process=os.getpid(),
        )
        watch.start(care)
    settings = environment.variables(place) | {"KIOSK_TRITON_THREADS": str(options.threads)}
    sys.stdout.flush()
    os.execve(place.server, command(place, options), settings)  # noqa: S606 the point of this module


def command(place: environment.Environment, options: argparse.Namespace) -> list[str]:
    """The server's command line."""
    return [
        str(place.server),
        *(f"--model-repository={each}" for each in options.repository),
        f"--backend-directory={place.backends}",
        "--model-control-mode=explicit",  # a broken model can be unloaded and loaded; watch.py loads new ones
        "--load-model=*",
        "--exit-on-error=false",  # one broken model must not keep the others away
        "--strict-readiness=false",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        "--grpc-infer-allocation-pool-size=16",
        f"--http-address={options.host}",
        f"--http-port={options.http_port}",
        f"--metrics-address={options.host}",
        f"--metrics-port={options.metrics_port}",
        "--allow-gpu-metrics=false" if not Path("/dev/nvidia0").exists() else "--allow-gpu-metrics=true",
        f"--exit-timeout-secs={options.grace}",
        f"--log-verbose={options.verbose}",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.triton", description=__doc__.splitlines()[0])
    parser.add_argument("--repository", action="append", help="model repository, a folder or gs://; may be repeated")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--threads", type=int, default=0, help="threads per inference; 0 lets ONNX Runtime choose")
    parser.add_argument("--grace", type=int, default=20, help="seconds for running requests at the end")
    parser.add_argument("--watch-seconds", type=float, default=5.0, help="how often to look for new models; 0: never")
    parser.add_argument(
        "--hung-seconds", type=float, default=180.0, help="a model that gets no further for so long is ended; 0: never"
    )
    parser.add_argument("--load-seconds", type=float, default=600.0, help="how long loading a model may take")
    parser.add_argument("--verbose", type=int, default=0, help="Triton's log verbosity")
    options = parser.parse_args()
    options.repository = options.repository or [str(MODELS)]
    return options


if __name__ == "__main__":
    sys.exit(main())
