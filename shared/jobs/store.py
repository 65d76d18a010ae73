"""The job store: every question to and every change of the jobs on Redis, by name.

Changes of state are single atomic script calls (``lua/``); this package only puts arguments in order and answers into
objects. Errors of Redis become `Retry`: the store is away or cannot take writes, and nothing was half done.
"""

from __future__ import annotations

from shared.errors import Misconfigured
from shared.jobs.connection import connect, database
from shared.jobs.keeping import Keeping
from shared.jobs.reading import Reading
from shared.jobs.registry import Registry
from shared.jobs.sharing import Sharing
from shared.jobs.working import Working


class JobStore(Reading, Working, Keeping, Sharing, Registry):
    """The jobs of one deployment.

    All methods raise `Retry` when Redis is away, full or read-only.
    """


def open_store(url: str, prefix: str) -> JobStore:
    """Return the store of a deployment; nothing is sent yet.

    Raises:
        Misconfigured: the URL or the prefix is not allowed.
    """
    if not (prefix.startswith("{") and prefix.endswith("}:") and len(prefix) > 3):
        raise Misconfigured(f"The key prefix is {prefix!r}; its form is {{name}}: with the braces, as in {{kiosk}}:")
    return JobStore(connect(url), prefix, database(url))
