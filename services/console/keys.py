"""``kiosk keys``: make, list and revoke the API keys of a deployment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time

from services.console import output, reach
from shared.auth.keys import KeyStore
from shared.auth.principal import Scope

DAY = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk keys`` can be told."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    create = actions.add_parser("create", help="make a key; its text is shown once")
    create.add_argument("name", help="for people, such as the name of the program that uses it")
    scopes = [scope.value for scope in Scope]
    create.add_argument("--scope", action="append", choices=scopes, help="what it allows (default read and write)")
    create.add_argument("--days", type=float, help="days until it expires (default: never)")
    create.add_argument("--owner", default="", help="whose jobs it sees (default: its own)")
    listing = actions.add_parser("list", help="list the keys")
    revoke = actions.add_parser("revoke", help="take a key out of force")
    revoke.add_argument("id", help="of the key, as `kiosk keys list` shows it")
    for action in (create, listing, revoke):
        reach.add_arguments(action)


def main(options: argparse.Namespace) -> int:
    """Do what was asked."""
    return asyncio.run(_main(options))


async def _main(options: argparse.Namespace) -> int:
    async with contextlib.aclosing(reach.store(reach.suite(options))) as store:
        keys = KeyStore(store.redis, store.prefix)
        if options.action == "create":
            scopes = options.scope or [Scope.READ.value, Scope.WRITE.value]
            life = None if options.days is None else options.days * DAY
            key, text = await keys.create(options.name, scopes, life, options.owner)
            output.say(f"{text}\n\nKeep it: it is not shown again. Its id is {key.id}.")
        elif options.action == "revoke":
            key = await keys.revoke(options.id)
            output.say(f"The key {key.id} ({key.name}) is out of force.")
        else:
            rows = [(k.id, k.name, k.owner, ", ".join(k.scopes), _expiry(k.expires)) for k in await keys.list()]
            output.table("API keys", ("id", "name", "owner", "allows", "expires"), rows)
    return 0


def _expiry(expires: float | None) -> str:
    if expires is None:
        return "never"
    left = expires - time.time()
    return f"in {output.duration(left)}" if left > 0 else "expired"
