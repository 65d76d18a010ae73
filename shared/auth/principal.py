"""The one who asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    """See one's own jobs, files and results."""
    WRITE = "write"
    """Upload, submit, cancel, expire."""
    ADMIN = "admin"
    """See and change everybody's jobs."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The one who asks: whose jobs they see, and what they may do.

    Attributes:
        owner: id of the API key's or token's owner, or ``anonymous``.
        scopes: what they may do.
        by: how they proved it: ``none``, ``key``, ``cookie`` or ``token``.
    """

    owner: str
    scopes: frozenset[Scope]
    by: str = "none"

    def may(self, scope: Scope) -> bool:
        """Tell whether something is allowed."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Tell whether what belongs to an owner is visible."""
        return owner == self.owner or Scope.ADMIN in self.scopes


ANONYMOUS = Principal("anonymous", frozenset({Scope.READ, Scope.WRITE}))
