"""Resumable uploads by tus 1.0: what the protocol says over HTTP. The bytes are kept by ``shared.storage.partial``.

Mounted by ``app.add_routes(Tus(…).routes())``; all state is in the storage, so any frontend can go on with any upload.
"""

from services.frontend.tus.handlers import Tus
from services.frontend.tus.protocol import PATH

__all__ = ["PATH", "Tus"]
