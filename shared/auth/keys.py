"""API keys: made and revoked by the operator, kept in Redis as hashes only.

A key reads ``ck_<12 hex digits: its id>_<43 characters: its secret>``. The secret holds 256 random bits, so that a
plain SHA-256 of it gives nothing away: there is nothing to guess that a slow hash would have to protect.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from shared.auth.principal import Principal, Scope
from shared.errors import InvalidInput, NotFound
from shared.jobs.base import errors_by_meaning
from shared.jobs.keys import AUTH_KEYS, AUTH_SECRET

_TOKEN = re.compile(r"ck_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret.

    Attributes:
        id: names it; 12 hex digits.
        name: for people.
        owner: whose jobs it sees; its own id unless several keys share an owner.
        scopes: what it allows.
        created: Unix time, s.
        expires: Unix time, s; None: never.
        digest: SHA-256 of the secret, hex.
    """

    id: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    created: float
    expires: float | None
    digest: str

    @property
    def principal(self) -> Principal:
        """The one whom it proves."""
        return Principal(self.owner, frozenset(map(Scope, self.scopes)), "key")


class KeyStore:
    """The keys of one deployment."""

    def __init__(self, redis: Any, prefix: str, now: Callable[[], float] = time.time) -> None:
        """Keep them in Redis, under a deployment's prefix: ``KeyStore(store.redis, store.prefix)``."""
        self._redis = redis
        self._name = prefix + AUTH_KEYS
        self._secret_name = prefix + AUTH_SECRET
        self._now = now

    @errors_by_meaning
    async def create(
        self,
        name: str,
        scopes: Iterable[str] = (Scope.READ, Scope.WRITE),
        life: float | None = None,
        owner: str = "",
    ) -> tuple[ApiKey, str]:
        """Make a key that lasts ``life`` seconds (None: for ever); return it and its text, which is shown only now.

        Raises:
            InvalidInput: a scope, the life or the owner is not allowed.
        """
        chosen = _checked_scopes(scopes)
        if life is not None and not life > 0:
            raise InvalidInput(f"A key cannot last {life:g} s; leave the time out for one that lasts for ever.")
        if owner and (owner == "anonymous" or not _OWNER.fullmatch(owner)):
            raise InvalidInput(f"{owner[:100]!r} cannot own keys: letters, digits and _.@- are allowed, 100 at most.")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = self._now()
        expires = None if life is None else now + life
        key = ApiKey(key_id, name[:200], owner or key_id, chosen, now, expires, _digest(secret))
        await self._redis.hset(self._name, key_id, json.dumps(asdict(key)))
        return key, f"ck_{key_id}_{secret}"

    @errors_by_meaning
    async def verify(self, text: str) -> ApiKey | None:
        """Return the key of a text, None where it is none, has expired or was revoked."""
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            return None
        key = await self.get(parts.group(1))
        if key is None or not hmac.compare_digest(key.digest, _digest(parts.group(2))):
            return None
        return key

    @errors_by_meaning
    async def get(self, key_id: str) -> ApiKey | None:
        """Return a key that is valid now, by its id."""
        raw = await self._redis.hget(self._name, key_id)
        key = _read(raw) if raw else None
        return key if key and (key.expires is None or key.expires > self._now()) else None

    @errors_by_meaning
    async def list(self) -> list[ApiKey]:
        """Return all keys, expired ones among them, oldest first."""
        return sorted(map(_read, await self._redis.hvals(self._name)), key=lambda key: key.created)

    @errors_by_meaning
    async def revoke(self, key_id: str) -> ApiKey:
        """Take a key out of force, at once for new requests (frontends remember a key for a few seconds).

        Raises:
            NotFound: there is no such key.
        """
        raw = await self._redis.hget(self._name, key_id)
        if not raw or not await self._redis.hdel(self._name, key_id):
            raise NotFound(f"There is no API key {key_id[:40]!r}.", code="no-such-key")
        return _read(raw)

    @errors_by_meaning
    async def cookie_secret(self) -> str:
        """Return what all frontends of the deployment sign cookies with; made by the first who asks."""
        await self._redis.set(self._secret_name, secrets.token_hex(32), nx=True)
        return str(await self._redis.get(self._secret_name))


def _checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(str(scope) for scope in scopes))
    allowed = [scope.value for scope in Scope]
    if not chosen or any(scope not in allowed for scope in chosen):
        raise InvalidInput(f"The scopes are {', '.join(chosen) or 'none'}; allowed are {', '.join(allowed)}.")
    return chosen


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(raw: str) -> ApiKey:
    found = json.loads(raw)
    return ApiKey(**{**found, "scopes": tuple(found["scopes"])})
