"""The requests of tus 1.0, and GET, which tells a program (or a person) what became of an upload."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from email.utils import format_datetime

import structlog
from aiohttp import web

from services.frontend import metrics, sniff
from services.frontend.errors import fault_of, problem
from services.frontend.settings import UploadSettings
from services.frontend.tus import protocol
from services.frontend.tus.body import Body
from services.frontend.tus.protocol import PATH, VERSION
from services.frontend.uploads import UPLOADS, stored_ending
from shared.errors import InvalidInput, KioskError, NotFound
from shared.storage import Stored
from shared.storage.partial import Partial, Partials, Progress, unknown

log = structlog.get_logger(__name__)

Handler = Callable[["Tus", web.Request], Awaitable[web.Response]]

_STATUS = {
    "tus-version": (412, "Precondition Failed"),
    "bad-content-type": (415, "Unsupported Media Type"),
    "final-upload": (403, "Forbidden"),
    "checksum-mismatch": (460, "Checksum Mismatch"),
}
_OVERRIDDEN = {"PATCH", "DELETE", "HEAD"}


class Tus:
    """Resumable uploads of one frontend."""

    def __init__(
        self,
        partials: Partials,
        settings: UploadSettings,
        owner: Callable[[web.Request], str],
        settle: Callable[[Stored, str, str], Awaitable[None]],
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        spend: Callable[[str, int], Awaitable[None]] | None = None,
        *,
        life: float = 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep uploads in a storage.

        Args:
            partials: where.
            settings: limits.
            owner: tells whose a request is; one owner's uploads do not exist for others.
            settle: is told of each new file, with its name and its owner.
            turn: is entered while bytes are received; raises ``Retry`` where too many are.
            spend: counts bytes of an owner's that a request does not bring; raises ``Retry`` where they are too many.
            life: s after its last byte in which an unfinished upload can be resumed.
            clock: Unix time in s.
        """
        self._partials = partials
        self._settings = settings
        self._owner = owner
        self._settle = settle
        self._turn = turn
        self._spend = spend
        self._life = life
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Return all routes, below ``PATH``."""
        one = PATH + "/{upload:[^/]+}"
        return [
            web.options(PATH, self.options),
            web.options(PATH + "/", self.options),
            web.options(one, self.options),
            web.post(PATH, self.create),
            web.post(PATH + "/", self.create),
            web.head(one, self.head),
            web.get(one, self.tell, allow_head=False),
            web.patch(one, self.append),
            web.delete(one, self.terminate),
            web.post(one, self.overridden),
        ]

    async def options(self, _request: web.Request) -> web.Response:
        """Tell what this server can do."""
        headers = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": protocol.EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(protocol.ALGORITHMS),
            "Tus-Max-Size": str(self._settings.max_bytes),
        }
        return web.Response(status=204, headers=headers)

    async def create(self, request: web.Request) -> web.Response:
        """Begin an upload, with its first bytes if the request has any; or join others to one."""
        return await _spoken(Tus._create, self, request)

    async def head(self, request: web.Request) -> web.Response:
        """Tell how far an upload has come."""
        return await _spoken(Tus._head, self, request)

    async def append(self, request: web.Request) -> web.Response:
        """Store more bytes."""
        return await _spoken(Tus._append, self, request)

    async def terminate(self, request: web.Request) -> web.Response:
        """Forget an upload; the file that a complete one became belongs to its jobs and stays with them."""
        return await _spoken(Tus._terminate, self, request)

    async def overridden(self, request: web.Request) -> web.Response:
        """Do what X-HTTP-Method-Override says, for networks that let only GET and POST pass."""
        method = request.headers.get("X-HTTP-Method-Override", "")
        if method not in _OVERRIDDEN:
            raise web.HTTPMethodNotAllowed("POST", ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH"])
        return await {"PATCH": self.append, "DELETE": self.terminate, "HEAD": self.head}[method](request)

    async def tell(self, request: web.Request) -> web.Response:
        """Tell in JSON how far an upload has come and which file it became; for anybody, not only clients of tus."""
        return await _spoken(Tus._tell, self, request, versions={VERSION, None})

    # -- requests --

    async def _create(self, request: web.Request) -> web.Response:
        concat = protocol.concat(request.headers.get("Upload-Concat", ""))
        if concat.parts:
            return await self._join(request, concat.parts)
        length = protocol.number(request.headers, "Upload-Length")
        self._refuse_large(length)
        partial = self._new(request, length, piece=concat.piece)
        if not length and not concat.piece:
            sniff.checked(_name(partial), b"")
        with_bytes = request.body_exists and request.headers.get("Content-Type") == protocol.CONTENT_TYPE
        body = self._body(request, length) if with_bytes else None
        await self._partials.create(partial)
        log.info("upload-begun", upload=partial.id, bytes=length, owner=partial.owner)
        if body is None:
            return self._answer(201, partial, Progress(0, self._clock()), location=True)
        partial, progress = await self._received(partial, 0, body, request)
        return self._answer(201, partial, progress, location=True)

    async def _join(self, request: web.Request, ids: tuple[str, ...]) -> web.Response:
        owner = self._owner(request)
        parts = [await self._of(upload, owner) for upload in ids]
        for part in parts:
            if not part.piece or (await self._partials.progress(part)).offset != part.length:
                raise InvalidInput(f"The upload {part.id} is no complete partial upload: it cannot be joined.")
        length = sum(part.length for part in parts)
        self._refuse_large(length)
        if self._spend is not None:
            await self._spend(owner, length)  # stored once more, and as often as somebody says
        whole = self._new(request, length, parts=ids)
        await self._partials.join(parts, whole)
        progress = Progress(length, self._clock())
        return self._answer(201, await self._settled(whole, progress), progress, location=True)

    async def _head(self, request: web.Request) -> web.Response:
        partial, progress = await self._found(request)
        partial = await self._settled(partial, progress)
        response = self._answer(200, partial, progress)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Upload-Length"] = str(partial.length)
        if partial.metadata:
            response.headers["Upload-Metadata"] = partial.metadata
        if partial.piece:
            response.headers["Upload-Concat"] = "partial"
        if partial.parts:
            response.headers["Upload-Concat"] = "final;" + " ".join(f"{PATH}/{part}" for part in partial.parts)
        return response

    async def _append(self, request: web.Request) -> web.Response:
        if request.headers.get("Content-Type") != protocol.CONTENT_TYPE:
            raise InvalidInput(f"The Content-Type must be {protocol.CONTENT_TYPE}.", code="bad-content-type")
        offset = protocol.number(request.headers, "Upload-Offset")
        partial, progress = await self._found(request)
        if partial.parts:
            raise InvalidInput("This upload was joined from others: nothing can be added.", code="final-upload")
        if offset != progress.offset:
            raise InvalidInput(f"The upload is at offset {progress.offset}, not {offset}.", code="conflict")
        if partial.key:
            return self._answer(204, partial, progress)
        body = self._body(request, partial.length - offset)
        partial, progress = await self._received(partial, offset, body, request)
        return self._answer(204, partial, progress)

    async def _terminate(self, request: web.Request) -> web.Response:
        partial, _ = await self._found(request)
        await self._partials.remove(partial.id)
        return web.Response(status=204)

    async def _tell(self, request: web.Request) -> web.Response:
        partial, progress = await self._found(request)
        partial = await self._settled(partial, progress)
        return web.json_response(
            {
                "id": partial.id,
                "offset": progress.offset,
                "length": partial.length,
                "complete": progress.offset == partial.length,
                "uploadedName": partial.key or None,
                "expires_at": None if partial.key else _iso(progress.changed + partial.life),
            },
            headers={"Cache-Control": "no-store"},
        )

    # -- parts of them --

    async def _received(
        self, partial: Partial, offset: int, body: Body, request: web.Request
    ) -> tuple[Partial, Progress]:
        """Store what the body brings; what is complete becomes a file."""
        checksum = protocol.checksum(request.headers.get("Upload-Checksum", ""))
        with self._turn():
            if offset == 0 and not partial.piece:
                await self._refuse_kind(partial, body)
            try:
                if checksum is None:
                    end = await self._partials.append(partial, offset, body)
                else:
                    end = await self._partials.append_if(partial, offset, body, *checksum)
            finally:
                metrics.upload_bytes.inc(body.taken)
        progress = Progress(end, self._clock())
        return await self._settled(partial, progress), progress

    async def _refuse_kind(self, partial: Partial, body: Body) -> None:
        """Look at the first bytes before any is stored; a file of a wrong kind is forgotten at once."""
        head = await body.peek(sniff.HEAD)
        if len(head) < min(sniff.HEAD, partial.length):
            return  # cut off within the first bytes: looked at when the rest is there
        try:
            sniff.checked(_name(partial), head)
        except InvalidInput:
            await self._forget(partial)
            raise

    async def _settled(self, partial: Partial, progress: Progress) -> Partial:
        """Make a complete upload a file, also if whoever received its last byte did not live to do so."""
        if partial.key or partial.piece or progress.offset != partial.length:
            return partial
        try:
            await self._finish(partial, _name(partial))
        except NotFound:  # another request was quicker, and may have removed the bytes as its owner's second copy
            if not (await self._partials.find(partial.id)).key:
                raise
        return await self._partials.find(partial.id)

    async def _finish(self, partial: Partial, name: str) -> None:
        head = await self._partials.head(partial, sniff.HEAD)
        if len(head) < min(sniff.HEAD, partial.length):
            raise unknown(partial.id)  # complete it was: its bytes went meanwhile
        try:
            kind = sniff.checked(name, head)
        except InvalidInput:
            await self._forget(partial)
            raise
        key = f"{UPLOADS}{partial.id}{stored_ending(name, kind)}"
        about = {"owner": partial.owner, "name": name}
        stored = await self._partials.finish(partial, key, kind.media_type, about)
        await self._settle(stored, name, partial.owner)

    async def _forget(self, partial: Partial) -> None:
        metrics.uploads.labels("refused").inc()
        await self._partials.remove(partial.id)

    async def _found(self, request: web.Request) -> tuple[Partial, Progress]:
        partial = await self._of(request.match_info["upload"], self._owner(request))
        progress = await self._partials.progress(partial)
        if not partial.key and self._clock() > progress.changed + partial.life:
            await self._partials.remove(partial.id)
            raise InvalidInput("The time to resume this upload is over: begin a new one.", code="gone")
        return partial, progress

    async def _of(self, upload: str, owner: str) -> Partial:
        partial = await self._partials.find(upload)
        if partial.owner != owner:
            raise NotFound(f"There is no upload {upload!r}: begin a new one.", code="no-such-upload")
        return partial

    def _new(self, request: web.Request, length: int, *, piece: bool = False, parts: tuple[str, ...] = ()) -> Partial:
        described = request.headers.get("Upload-Metadata", "")
        protocol.metadata(described)
        return Partial(
            secrets.token_hex(16), length, self._owner(request), described, self._life, piece=piece, parts=parts
        )

    def _body(self, request: web.Request, room: int) -> Body:
        if (request.content_length or 0) > room:
            raise InvalidInput(
                f"The request brings {request.content_length} bytes; {room} are still missing.", code="too-large"
            )
        return Body(request, room, self._settings)

    def _refuse_large(self, length: int) -> None:
        most = self._settings.max_bytes
        if length > most:
            raise InvalidInput(f"The file is larger than the {most:,} bytes allowed.", code="too-large")

    def _answer(self, status: int, partial: Partial, progress: Progress, *, location: bool = False) -> web.Response:
        response = web.Response(status=status, headers={"Upload-Offset": str(progress.offset)})
        if location:
            response.headers["Location"] = f"{PATH}/{partial.id}"
        if partial.key:
            response.headers["Upload-Key"] = partial.key
        else:
            expires = datetime.fromtimestamp(int(progress.changed + partial.life), UTC)
            response.headers["Upload-Expires"] = format_datetime(expires, usegmt=True)
        return response


async def _spoken(
    handler: Handler, tus: Tus, request: web.Request, versions: Collection[str | None] = (VERSION,)
) -> web.Response:
    """Answer in the protocol's words: its version on every answer, its statuses for its errors."""
    try:
        if request.headers.get("Tus-Resumable") not in versions:
            raise InvalidInput(f"The header Tus-Resumable must be {VERSION}.", code="tus-version")
        response = await handler(tus, request)
    except KioskError as error:
        response = _told(error, request)
    response.headers["Tus-Resumable"] = VERSION
    return response


def _told(error: KioskError, request: web.Request) -> web.Response:
    fault = fault_of(error)
    response = problem(fault)
    if fault.code in _STATUS:
        response.set_status(*_STATUS[fault.code])
    if fault.code == "tus-version":
        response.headers["Tus-Version"] = VERSION
    if not request.content.is_eof():
        response.force_close()  # the rest of the body is not read
    return response


def _name(partial: Partial) -> str:
    given = protocol.metadata(partial.metadata)
    return sniff.base_name(given.get("filename") or given.get("name") or "image")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
