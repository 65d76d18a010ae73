"""Bearer tokens of an OpenID Connect provider: JWTs (RFC 7519) signed with a key that it publishes (RFC 7517)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any

import jwt
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout

from shared.auth.principal import Principal, Scope
from shared.auth.settings import OidcSettings
from shared.errors import InvalidInput, Retry

log = structlog.get_logger(__name__)

#: Asymmetric ones only: a provider's public key must never do as a shared secret.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
#: s after which the keys are read again, and before which an unknown key id does not make them so.
_OLD, _YOUNG = 3600.0, 10.0
#: s for which they do where the provider is away, and for which nobody asks it again then.
_OLDEST, _PAUSE = 86_400.0, 5.0
_CLOCK_SKEW = 30


class Oidc:
    """Checks tokens of one provider."""

    def __init__(self, settings: OidcSettings) -> None:
        """Trust a provider."""
        self._settings = settings
        self._keys: dict[str, Any] = {}
        self._read_at = self._failed_at = float("-inf")
        self._reading = asyncio.Lock()

    async def verify(self, token: str) -> Principal:
        """Return the one whom a token proves.

        Raises:
            InvalidInput: with the code ``unauthorized``: the token is not valid here.
            Retry: the provider's keys cannot be read.
        """
        if not token.isascii():
            raise InvalidInput("The bearer token is none: it has letters that no token has.", code="unauthorized")
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(str(header.get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_CLOCK_SKEW,
                options={"require": ["exp", "iss", "aud", self._settings.owner_claim]},
            )
        except jwt.PyJWTError as error:
            raise InvalidInput(f"The bearer token is not valid here: {error}.", code="unauthorized") from error
        return Principal(
            _owner(str(claims[self._settings.owner_claim])), frozenset(map(Scope, self._settings.scopes)), "token"
        )

    async def _key(self, key_id: str) -> Any:
        known = key_id in self._keys
        if self._age() > (_OLD if known else _YOUNG):
            async with self._reading:
                if self._age() > _YOUNG:
                    await self._read()
        if key_id in self._keys and self._age() < _OLDEST:
            return self._keys[key_id]
        if self._failed_at > self._read_at:
            raise Retry("The keys of the sign-in provider cannot be read right now.", after=_PAUSE)
        raise InvalidInput(
            "The bearer token is signed with a key that its provider does not name.", code="unauthorized"
        )

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    async def _read(self) -> None:
        """Read the keys; nobody waits for a provider that was away just now."""
        if time.monotonic() - self._failed_at < _PAUSE:
            return
        url = self._settings.jwks_url
        try:
            async with ClientSession(timeout=ClientTimeout(total=5)) as http:
                if not url:
                    url = str((await _json(http, self._discovery()))["jwks_uri"])
                found = await _json(http, url)
            keys = jwt.PyJWKSet.from_dict(found).keys
        except (ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            self._failed_at = time.monotonic()
            log.warning("sign-in-keys-not-read", error=str(error) or type(error).__name__)
            return
        self._keys = {str(key.key_id or ""): key for key in keys}
        self._read_at = time.monotonic()

    def _discovery(self) -> str:
        return self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"


def _owner(name: str) -> str:
    """Return a token's owner: a digest, since a name may hold anything, apart from the owners of API keys."""
    return "oidc:" + hashlib.sha256(name.encode()).hexdigest()[:24]


async def _json(http: ClientSession, url: str) -> Any:
    async with http.get(url) as answer:
        answer.raise_for_status()
        return json.loads(await answer.text())
