"""For schemathesis: puts what there is into requests made by the schema alone, which knows no file, job type or model.

All else stays as the schema allows it, so that a request that is refused is one that the schema should not allow.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

_THERE: dict[str, Any] = {
    **dict.fromkeys(("type", "jobType"), "segmentation"),
    **dict.fromkeys(("file", "uploadedName", "imageName"), os.environ["KIOSK_TEST_FILE"]),
    **dict.fromkeys(("model", "model_version", "modelName", "modelVersion", "dataRescale", "webhook"), ""),
    "options": {},
    "jobForm": {},
}
_FORM = "multipart/form-data"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    there = {**_THERE, "file": "II*\0" + "\0" * 600} if case.media_type == _FORM else _THERE
    case.body = {name: there.get(name, value) for name, value in case.body.items()}
    if "files" in case.body:
        case.body["files"] = [{**one, "file": _THERE["file"]} for one in case.body["files"][:100]]
    if case.path.endswith("/direct"):
        case.body["size"] = min(case.body["size"], 1_000_000)
