"""How people prove who they are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from shared.settings import Group, Seconds


class OidcSettings(Group):
    """Bearer tokens of an OpenID Connect provider."""

    issuer: str = ""
    """Address of the provider, as its tokens name it; empty: no such tokens are taken."""
    audience: str = ""
    """What the tokens must be meant for."""
    jwks_url: str = ""
    """Where the provider's keys are; empty: as its discovery document says."""
    owner_claim: str = "sub"
    """The claim that names the owner."""
    scopes: tuple[str, ...] = ("read", "write")
    """What the bearer of a valid token may do. JSON, as in ["read"]."""


class AuthSettings(Group):
    """Who may use the service."""

    anonymous: Literal["auto", "on", "off", "compat"] = "auto"
    """Who may come without a key: on, off, auto (on where only this machine can reach the service), or compat (the
    routes of old clients only)."""
    secret: SecretStr = SecretStr("")
    """Signs sign-in cookies; empty: one is made and kept in Redis."""
    cookie_seconds: Seconds = Field(12 * 3600.0)
    """s that a browser stays signed in."""
    oidc: OidcSettings = OidcSettings()
