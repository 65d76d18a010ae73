"""Who may do what: API keys, bearer tokens, sign-in cookies, and the principal that each yields.

HTTP is not known here: the frontend reads the headers and asks.
"""

from shared.auth.cookies import COOKIE, Cookies
from shared.auth.keys import ApiKey, KeyStore
from shared.auth.principal import ANONYMOUS, Principal, Scope
from shared.auth.settings import AuthSettings
from shared.auth.spending import Spending

__all__ = ["ANONYMOUS", "COOKIE", "ApiKey", "AuthSettings", "Cookies", "KeyStore", "Principal", "Scope", "Spending"]
