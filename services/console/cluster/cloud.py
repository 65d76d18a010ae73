"""The REST API of Google Cloud, as far as it is needed: paging, operations, refusals as sentences.

Every list is read page by page, every change is waited for until its operation is done. ``KIOSK_GCP_API`` names
another address, for a stand-in; ``KIOSK_GCP_TOKEN`` holds a token, else ``gcloud`` is asked for one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from shared.errors import InvalidInput, KioskError, Misconfigured, NotFound, Retry

#: s between two looks at an operation, and until it is given up.
PAUSE = 3.0
PATIENCE = 3600.0

#: What Google says while something still refers to a resource.
_IN_USE = ("resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")


class InUse(Retry):
    """Something else still refers to the resource: it can go after that."""


class Refused(KioskError):
    """The account may not do this."""


class Cloud:
    """One project of Google Cloud."""

    def __init__(self, http: aiohttp.ClientSession, project: str, token: str, root: str = "") -> None:
        """Use a session; ``root`` is the address of a stand-in."""
        self.project = project
        self._http = http
        self._root = root.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    def url(self, service: str, path: str) -> str:
        """Return the address of a path such as ``compute/v1/projects/…`` within a service."""
        if self._root:
            return f"{self._root}/{service}/{path}"
        return f"https://{service}.googleapis.com/{path}"

    async def call(
        self, method: str, service: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return an answer.

        Raises:
            NotFound: there is no such thing.
            Refused: the account lacks a permission, or the API is not enabled.
            InUse: something else still refers to it.
            InvalidInput: the request is wrong.
            Retry: Google cannot be reached, or asks to come again.
        """
        try:
            async with self._http.request(
                method, self.url(service, path), json=body, params=query, headers=self._headers
            ) as answer:
                text = await answer.json(content_type=None) if answer.status != 204 else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Retry(f"Google Cloud ({service}) cannot be reached: {error or type(error).__name__}.") from error
        if answer.status < 400:
            return dict(text or {})
        raise _meaning(answer.status, text, f"{method} {path}")

    async def pages(
        self, service: str, path: str, field: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list, page by page; of an aggregated list those of all places."""
        token = ""
        while True:
            answer = await self.call(
                "GET", service, path, query={**(query or {}), **({"pageToken": token} if token else {})}
            )
            held = answer.get(field) or ([] if field != "items" else {})
            if isinstance(held, dict):  # aggregated: place to {kind: items}
                for place in held.values():
                    for kind, items in place.items():
                        if kind != "warning":
                            for item in items:
                                yield item
            else:
                for item in held:
                    yield item
            token = str(answer.get("nextPageToken") or "")
            if not token:
                return

    async def change(
        self, method: str, service: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Change something and wait until that is done."""
        answer = await self.call(method, service, path, body, query)
        operation = _operation_path(service, answer)
        return await self._until_done(service, operation) if operation else answer

    async def _until_done(self, service: str, path: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                operation = await self.call("GET", service, path)
                if operation.get("status") == "DONE" or operation.get("done"):
                    break
                await asyncio.sleep(PAUSE)
        if fault := operation.get("error"):
            first = fault["errors"][0] if fault.get("errors") else fault
            raise _meaning(400, {"error": {"message": first.get("message", ""), "errors": [first]}}, path)
        return operation


def _operation_path(service: str, answer: Mapping[str, Any]) -> str:
    """Return where to ask for the state of what an answer has set going; empty where it is done already."""
    if str(answer.get("kind", "")).endswith("#operation") or "operationType" in answer:
        link = str(answer["selfLink"])
        version = "compute/v1" if service == "compute" else "v1"
        return version + link[link.index("/projects/") :]
    return ""


def _meaning(status: int, body: Any, what: str) -> KioskError:
    fault = (body or {}).get("error") or {}
    sentence = str(fault.get("message") or f"Google Cloud answered {status} to {what}.")
    reasons = {str(e.get("reason") or e.get("code") or "") for e in fault.get("errors") or []}
    if reasons & set(_IN_USE) or "is already being used by" in sentence:
        return InUse(sentence)
    if status == 404:
        return NotFound(sentence)
    if status in (401, 403):
        return Refused(f"Google Cloud refuses: {sentence}")
    if status == 429 or status >= 500:
        return Retry(sentence)
    return InvalidInput(sentence)


def token() -> str:
    """Return a token of the account that works here.

    Raises:
        Misconfigured: there is none.
    """
    if given := os.environ.get("KIOSK_GCP_TOKEN"):
        return given
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise Misconfigured("Nobody is logged in to Google Cloud: install gcloud, or give a token in KIOSK_GCP_TOKEN.")
    done = subprocess.run([gcloud, "auth", "print-access-token"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misconfigured("Nobody is logged in to Google Cloud: run `gcloud auth login`.")
    return done.stdout.strip()
