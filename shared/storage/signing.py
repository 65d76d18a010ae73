"""Addresses that let anybody read or write one object of a bucket for a while (V4 signatures)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import quote

from shared.storage.connection import GOOGLE, Connection
from shared.storage.retrying import TROUBLE

LONGEST = timedelta(days=7)
"""A limit of V4 signatures."""
_HOST = "https://storage.googleapis.com"
_WHO = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/email"


async def signed(
    to: Connection, name: str, life: timedelta, *, filename: str | None = None, put: Mapping[str, str] | None = None
) -> str | None:
    """Return an address to GET the object, or with ``put`` to PUT it; None if nobody can sign here.

    Signed with the key of GOOGLE_APPLICATION_CREDENTIALS; without one (workload identity) by the IAM API, for which the
    service account needs the role "Service Account Token Creator" on itself.

    Args:
        to: the bucket.
        name: of the object in the bucket.
        life: at most ``LONGEST``, else that.
        filename: under which a browser saves it.
        put: headers that the PUT must carry.
    """
    account = to.client.token.service_data.get("client_email") or await _account(to)
    if account is None:
        return None
    query = {"response-content-disposition": _attachment(filename)} if filename else {}
    blob = to.client.get_bucket(to.bucket).new_blob(name)
    address: str = await blob.get_signed_url(
        int(min(life, LONGEST).total_seconds()),
        headers=dict(put or {}),
        query_params=query,
        http_method="PUT" if put else "GET",
        service_account_email=account,
    )
    # An emulator is reached where it is; it looks at no signature.
    return address if to.root == GOOGLE else address.replace(_HOST, to.root, 1)


async def _account(to: Connection) -> str | None:
    """Ask the metadata server who this pod is; an emulator has nobody."""
    if to.anonymous:
        return None
    try:
        answer = await to.client.token.session.get(_WHO, headers={"Metadata-Flavor": "Google"}, timeout=5)
        found: str = (await answer.text()).strip()
    except TROUBLE:
        return None
    return found


def _attachment(filename: str) -> str:
    """Return a Content-Disposition for a name of any letters (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
