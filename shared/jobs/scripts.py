"""Loads the Lua scripts and calls them, each by its file's name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from shared.jobs import states

_FOLDER = Path(__file__).parent / "lua"


#: Scripts that make the data grow for good. All others must work on a server whose memory is full, or nothing could
#: ever be ended and forgotten there: Redis lets a script go on that has written before it would be refused, so they
#: begin with a write that changes nothing; claim does so by itself.
_GROWING = ("submit", "split", "revive", "share", "due", "queues")
_ROOM = "call('DEL', P .. 'hint:room')\n"
#: With the prefix, the second of two keys that every script names and that never exist. While a cluster moves the slot,
#: Redis refuses (TRYAGAIN) a script of two missing keys at either node: none runs where a part of the keys is away.
_NOWHERE = "nowhere"
_WITH = re.compile(r"^-- With: (.+)$", re.MULTILINE)


class Scripts:
    """The scripts of one deployment on one Redis."""

    def __init__(self, redis: Any, prefix: str, database: int) -> None:
        """Prepare the scripts for a client of redis-py; each is sent to the server once, when it is first needed."""
        self._redis = redis
        self._prefix = prefix
        self._database = database
        self._loaded: dict[str, AsyncScript] = {}

    async def __call__(self, name: str, now: str, *arguments: str | int) -> Any:
        """Run a script in one atomic step; ``now`` is ms since 1970 as text, or empty for the server's clock."""
        script = self._loaded.get(name)
        if script is None:
            script = self._loaded[name] = AsyncScript(self._redis, source(name, self._database))
        words = ("EVALSHA", script.sha, 2, self._prefix, self._prefix + _NOWHERE, now, *arguments)
        try:
            return await self._redis.execute_command(*words)
        except NoScriptError:
            await self._redis.script_load(script.script)
            return await self._redis.execute_command(*words)


@cache
def source(name: str, database: int) -> str:
    """Return the whole text of a script: the part that all have, the parts that it names, and its own."""
    own = (_FOLDER / f"{name}.lua").read_text("utf-8")
    named = _WITH.search(own)
    parts = ["base", *(named[1].split(", ") if named else ())]
    common = "\n".join((_FOLDER / "parts" / f"{part}.lua").read_text("utf-8") for part in parts)
    filled = common.replace("@TRANSITIONS@", states.lua_table()).replace("@DB@", str(database))
    room = "" if name in (*_GROWING, "claim") else _ROOM
    return f"{filled}\n{room}{own}"


def server_clock() -> str:
    """Leave the time to the Redis server: one clock for all processes."""
    return ""
