"""Equal uploads of one owner share one object in storage, each under a name of its own."""

from __future__ import annotations

from dataclasses import dataclass

from shared.jobs import keys
from shared.jobs.base import StoreBase, errors_by_meaning


@dataclass(frozen=True, slots=True)
class SharedUpload:
    """What is known of an upload: the object that holds its bytes, and the file's name for people."""

    object: str
    name: str


class Sharing(StoreBase):
    """Which uploads are the same bytes."""

    @errors_by_meaning
    async def share(self, owner: str, sha256: str, ending: str, upload: str, name: str, *, missing: str = "") -> str:
        """Record an upload; return the object that holds its bytes: itself, or that of an earlier one of the owner.

        Args:
            owner: whose upload; nothing is ever shared between owners.
            sha256: of its bytes, hexadecimal.
            ending: of its name, with the dot: files of other endings are read in other ways.
            upload: its key in storage.
            name: the file's name for people.
            missing: an object that was returned before and is not in the storage: it is replaced by this one.
        """
        content = f"{owner}:{sha256}{ending.lower()}"
        return str(await self._run("share", self._now(), content, upload, name, missing))

    @errors_by_meaning
    async def shared(self, upload: str) -> SharedUpload | None:
        """Return what is known of an upload; None where nothing is: it is its own object, or there is none."""
        content, name = await self.redis.hmget(self.prefix + keys.UPLOAD + upload, ["content", "name"])
        if content is None:
            return None
        found = await self.redis.hget(self.prefix + keys.CONTENT + content, "object")
        return SharedUpload(str(found), name or "") if found else None

    @errors_by_meaning
    async def others(self, upload: str) -> set[str]:
        """Return the names of the other uploads that share the object of one."""
        content = await self.redis.hget(self.prefix + keys.UPLOAD + upload, "content")
        names = await self.redis.hkeys(self.prefix + keys.CONTENT + content) if content else ()
        return set(names) - {upload, "object"}
