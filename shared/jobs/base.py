"""What all parts of the store share: the client, the scripts, the clock, and errors by meaning."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from shared.errors import InvalidInput, Misconfigured, NotFound, Retry
from shared.jobs import keys
from shared.jobs.connection import AWAY, RedisError, close
from shared.jobs.model import Held
from shared.jobs.scripts import Scripts, server_clock

T = TypeVar("T")
P = ParamSpec("P")

_REFUSED = "Redis refuses the user or password, or that user lacks permissions for this program's keys."
#: Seconds after which a caller may try again when Redis is in trouble.
AGAIN_AFTER = 1.0


def errors_by_meaning(call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Turn what redis-py raises into the errors of this project."""

    @functools.wraps(call)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await call(*args, **kwargs)
        except (AuthenticationError, AuthorizationError) as error:
            raise Misconfigured(_REFUSED) from error
        except AWAY as error:
            raise Retry("The job store (Redis) cannot be reached right now.", after=AGAIN_AFTER) from error
        except ResponseError as error:
            raise _meaning(error) from error
        except ClusterError as error:  # of no answer in many tries: both nodes sent us to the other
            raise Retry("The job store (Redis) is moving to another node right now.", after=AGAIN_AFTER) from error
        except RedisError as error:
            raise Retry(f"The job store (Redis) cannot answer right now: {error}.", after=AGAIN_AFTER) from error

    return wrapped


def _meaning(error: ResponseError) -> Exception:
    if isinstance(error, NoScriptError):  # restarted between learning the script and running it
        return Retry("The job store (Redis) was restarted just now.", after=AGAIN_AFTER)
    text = _WORDS.get(type(error), "") + str(error)  # redis-py takes the first word off some errors
    if text.startswith("GONE"):
        return NotFound(f"The file {text[5:]!r} is being deleted; upload it again.", code="upload-gone")
    if text.startswith("WRONGTYPE"):
        return Retry(
            "A key of the job store (Redis) holds what it must not; `kiosk audit` says which.", after=AGAIN_AFTER
        )
    if text.startswith("TRANSITION"):
        return InvalidInput(f"A job cannot change its state like that: {text[11:]}.", code="transition")
    if text.startswith(
        (
            "OOM",
            "READONLY",
            "LOADING",
            "BUSY",
            "MISCONF",
            "NOREPLICAS",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
        )
    ):
        return Retry(f"The job store (Redis) takes no changes right now: {text.partition(' ')[0]}.", after=AGAIN_AFTER)
    if text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return Misconfigured(_REFUSED)
    return error


_WORDS: dict[type, str] = {
    ReadOnlyError: "READONLY ",
    OutOfMemoryError: "OOM ",
    NoPermissionError: "NOPERM ",
}


class StoreBase:
    """A client of one deployment's jobs on one Redis."""

    def __init__(self, redis: Any, prefix: str, number: int = 0, now: Callable[[], str] = server_clock) -> None:
        """Use a client; ``now`` gives the time in ms as text, for tests, or empty text for the server's clock."""
        self.redis = redis
        self.prefix = prefix
        self._run = Scripts(redis, prefix, number)
        self._now = now

    async def aclose(self) -> None:
        """Close the connections."""
        await close(self.redis)

    def _key(self, job_id: str) -> str:
        return self.prefix + keys.JOB + job_id

    async def _newest(self, name: str, before_ms: float, count: int) -> list[tuple[str, int]]:
        newest = f"({before_ms:.0f}" if before_ms != float("inf") else "+inf"
        rows = await self.redis.zrevrangebyscore(
            self.prefix + name, newest, "-inf", start=0, num=count, withscores=True
        )
        return [(job_id, int(created)) for job_id, created in rows]

    async def _milliseconds(self) -> int:
        if given := self._now():
            return int(given)
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def tokens(held: Iterable[Held]) -> Iterable[str | int]:
    for token in held:
        yield token.id
        yield token.attempt


def flat(facts: Mapping[str, str]) -> list[str]:
    return [text for pair in facts.items() for text in pair]


def pairs(flat: Any) -> dict[str, str]:
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def escaped(prefix: str) -> str:
    """Return a prefix as a pattern that matches only itself."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)
