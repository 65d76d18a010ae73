"""What is on offer, and to whom."""

from __future__ import annotations

from aiohttp import web

from services.frontend.auth import principal
from services.frontend.context import frontend
from services.frontend.v1.models import JobTypeList, JobTypeView, Me, ModelList
from services.frontend.v1.routing import answer
from shared.version import VERSION


async def job_types(request: web.Request) -> web.Response:
    """List the job types with the schemas of their options."""
    views = [
        JobTypeView(
            name=kind.name,
            title=kind.title or kind.name,
            description=kind.description,
            aliases=list(kind.aliases),
            model=kind.model,
            accepts=list(kind.accepts),
            options_schema=dict(kind.options_schema),
        )
        for kind in await frontend(request).catalogue.public()
    ]
    return answer(JobTypeList(job_types=views))


async def models(request: web.Request) -> web.Response:
    """List the models and their versions."""
    return answer(ModelList(models=await frontend(request).catalogue.models()))


async def me(request: web.Request) -> web.Response:
    """Tell who asks, and what is allowed here."""
    front, who = frontend(request), principal(request)
    return answer(
        Me(
            owner=who.owner,
            scopes=sorted(who.scopes),
            signed_in=who.by != "none",
            anonymous=front.gate.anonymous == "on",
            max_upload_bytes=front.settings.uploads.max_bytes,
            batch_files=front.settings.jobs.batch_files,
            label_viewer=front.settings.label_viewer,
            version=VERSION,
        )
    )
