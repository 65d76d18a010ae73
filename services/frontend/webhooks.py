"""Calls to addresses that submitters name."""

from __future__ import annotations

from services.frontend.settings import WebhookSettings
from shared.errors import InvalidInput


class Webhooks:
    """Checks and calls addresses."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Call as the settings say."""
        self._settings = settings

    async def check(self, _url: str) -> None:
        """Refuse an address that would never be called."""
        if not self._settings.secret:
            raise InvalidInput("Webhooks are switched off here.", code="no-webhooks")
