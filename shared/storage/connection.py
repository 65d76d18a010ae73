"""The way to one bucket: the library's client, its credentials, and patience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from shared.storage.retrying import TROUBLE, Patience, as_error

R = TypeVar("R")

GOOGLE = "https://www.googleapis.com"
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
"""For bodies of any length: a stalled connection is given up, a slow one is not."""


class Connection:
    """One bucket; several transfers may share it."""

    def __init__(
        self, bucket: str, api_root: str = "", patience: Patience | None = None, *, anonymous: bool | None = None
    ) -> None:
        """Open nothing yet.

        Args:
            bucket: its name.
            api_root: another address of the API, for an emulator.
            patience: how failures are met.
            anonymous: send no credentials; by default so with another address.
        """
        self.bucket = bucket
        self.patience = patience or Patience()
        self.root = (api_root or GOOGLE).rstrip("/")
        self.anonymous = bool(api_root) if anonymous is None else anonymous
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The library's client, made at first use, when an event loop runs."""
        if self._client is None:
            # Imported here: it and its cryptography cost a quarter of a second that a folder need not pay.
            from gcloud.aio.storage import Storage as Client

            self._client = Client(api_root=self.root, api_is_dev=self.anonymous)
        return self._client

    def object_url(self, name: str) -> str:
        """Return the address of an object in the JSON API."""
        return f"{self.root}/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def upload_url(self) -> str:
        """Return the address for new objects in the JSON API."""
        return f"{self.root}/upload/storage/v1/b/{self.bucket}/o"

    async def patiently(self, call: Callable[[], Awaitable[R]], about: str) -> R:
        """Await ``call()``, again and again while its error may pass, and raise the last one as one of ours.

        Raises:
            NotFound: 404, of the object ``about``.
            Misconfigured: 401 or 403, with a fresh token too.
            Retry: the bucket stayed away.
        """
        failures = 0
        while True:
            try:
                return await call()
            except TROUBLE as error:
                failures += 1
                await self.bear(error, failures, about)

    async def bear(self, error: BaseException, failures: int, about: str) -> None:
        """Return when it is time for another try, after ``failures`` in a row (this one counted); else raise.

        Raises:
            NotFound, Misconfigured, Retry: as ``patiently`` does.
        """
        if failures == 1 and isinstance(error, aiohttp.ClientResponseError) and error.status == 401:
            self.forget_token()
            return
        if not self.patience.worth(error, failures):
            raise as_error(error, about, self.bucket) from error
        await self.patience.before(failures, error)

    async def request(
        self,
        method: str,
        url: str | URL,
        headers: Mapping[str, str],
        allowed: frozenset[int] = frozenset(),
        **more: Any,
    ) -> aiohttp.ClientResponse:
        """Send one request with credentials; the caller reads and releases the answer.

        Raises:
            aiohttp.ClientResponseError: the answer is an error that is not in ``allowed``.
        """
        own = {} if self.anonymous else {"Authorization": f"Bearer {await self.client.token.get()}"}
        response: aiohttp.ClientResponse = await self.client.session.request(
            method,
            url,
            headers={**headers, **own},
            auto_raise_for_status=False,
            timeout=TIMEOUT,
            allow_redirects=False,
            **more,
        )
        if response.status >= 400 and response.status not in allowed:
            response.release()
            raise aiohttp.ClientResponseError(
                response.request_info, response.history, status=response.status, headers=response.headers
            )
        return response

    def forget_token(self) -> None:
        """Have the next call fetch a new token: this one was refused before its time."""
        if not self.anonymous:
            self.client.token.access_token = None

    async def aclose(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.token.close()
            await self._client.close()
