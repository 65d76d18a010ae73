"""Bearer tokens of an OpenID Connect provider, which may be away."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from shared.auth.oidc import Oidc
from shared.auth.settings import OidcSettings
from shared.errors import InvalidInput
from tests.fixtures.frontend import Serve, Served

_JWK = jwt.algorithms.ECAlgorithm.to_jwk


class Provider:
    """A provider with one key, called ``one``."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = ""
        self.away = False
        self.asked = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/keys", self._keys), web.get("/.well-known/openid-configuration", self._discovery)])
        return app

    def token(self, key: Any = None, kid: str = "one", **claims: Any) -> dict[str, str]:
        """Return the headers of a request with a token."""
        said = {"iss": self.issuer, "aud": "kiosk", "sub": "ann", "exp": time.time() + 60, **claims}
        return _as(jwt.encode(said, key or self.key, algorithm="ES256", headers={"kid": kid}))

    async def _keys(self, _request: web.Request) -> web.Response:
        public = json.loads(_JWK(self.key.public_key()))
        return web.json_response({"keys": [{**public, "kid": "one", "alg": "ES256", "use": "sig"}]})

    async def _discovery(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=500) if self.away else web.json_response({"jwks_uri": f"{self.issuer}/keys"})


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def provider(aiohttp_server: Any) -> Provider:
    provider = Provider()
    provider.issuer = str((await aiohttp_server(provider.app())).make_url("/")).rstrip("/")
    return provider


@pytest.fixture
async def served(serve: Serve, provider: Provider) -> Served:
    return await serve(auth={"anonymous": "off", "oidc": {"issuer": provider.issuer, "audience": "kiosk"}})


async def test_a_token_proves_its_owner(served: Served, provider: Provider) -> None:
    status, me = await served.get("/api/v1/me", **provider.token())
    assert status == 200
    assert me["owner"].startswith("oidc:")
    assert (await served.get("/api/v1/me", **provider.token(sub="bob")))[1]["owner"] != me["owner"]


async def test_what_proves_nothing(served: Served, provider: Provider) -> None:
    token, other = provider.token, ec.generate_private_key(ec.SECP256R1())
    wrong = [token(aud="else"), token(iss="https://evil.example"), token(exp=time.time() - 60), token(other)]
    claims = {"iss": provider.issuer, "aud": "kiosk", "sub": "a", "exp": 9e9}
    wrong += [_as(jwt.encode(claims, "x" * 32, algorithm="HS256")), _as(jwt.encode(claims, None, algorithm="none"))]
    wrong += [_as("a.b.ü"), _as("..."), _as("ey" * 3_000)]
    for headers in wrong:
        assert (await served.get("/api/v1/me", **headers))[0] == 401
    with pytest.raises(InvalidInput) as refused:
        await Oidc(OidcSettings(issuer=provider.issuer)).verify("a.b.\udc80")  # as bytes that are no UTF-8 come
    assert refused.value.code == "unauthorized"


async def test_known_keys_do_while_the_provider_is_away(
    served: Served, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await served.get("/api/v1/me", **provider.token()))[0] == 200
    provider.away = True
    for age in ("_OLD", "_YOUNG"):
        monkeypatch.setattr(f"shared.auth.oidc.{age}", 0.0)
    assert (await served.get("/api/v1/me", **provider.token()))[0] == 200
    assert provider.asked == 2
    monkeypatch.setattr("shared.auth.oidc._OLDEST", 0.0)
    assert (await served.get("/api/v1/me", **provider.token()))[0] == 503


async def test_nobody_waits_for_a_provider_that_was_away_just_now(served: Served, provider: Provider) -> None:
    provider.away = True
    for kid in ("one", "two", "three"):
        assert (await served.get("/api/v1/me", **provider.token(kid=kid)))[0] == 503
    assert provider.asked == 1
