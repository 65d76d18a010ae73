"""Who may do what: API keys, bearer tokens, sign-in cookies, and the principal that each yields.

HTTP is not known here: the frontend reads the headers and asks.
"""

from shared.auth.principal import ANONYMOUS, Principal, Scope
from shared.auth.settings import AuthSettings

__all__ = ["ANONYMOUS", "AuthSettings", "Principal", "Scope"]
