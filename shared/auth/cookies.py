"""Sign-in cookies: the id of an API key and an end, signed. A cookie says nothing that its key does not."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable

COOKIE = "kiosk"


class Cookies:
    """Makes and reads the values of sign-in cookies."""

    def __init__(self, secret: str, seconds: float, now: Callable[[], float] = time.time) -> None:
        """Sign with a secret; a cookie lasts some seconds."""
        self._secret = secret.encode()
        self.seconds = seconds
        self._now = now

    def make(self, key_id: str) -> str:
        """Return the value for the holder of a key."""
        text = f"{key_id}.{self._now() + self.seconds:.0f}"
        return f"{text}.{self._sign(text)}"

    def read(self, value: str) -> str | None:
        """Return the id of the key; None for a value that is forged, cut or out of date."""
        text, _, signature = value.rpartition(".")
        key_id, _, end = text.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(text).encode()):
            return None
        return key_id if end.isdecimal() and int(end) > self._now() else None

    def _sign(self, text: str) -> str:
        digest = hmac.digest(self._secret, text.encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


__all__ = ["COOKIE", "Cookies"]
