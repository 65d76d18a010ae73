"""schemathesis reads the OpenAPI document and tries every operation: what is answered is what is promised."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.fixtures.frontend import Serve

_SEED = "20240501"
_NOT_PROMISED = {
    # No schema says which job types, models and images there are, nor in which state a job is.
    "v1": "positive_data_acceptance",
    # The compatible API must answer 404 to any method that it has not.
    "old": "positive_data_acceptance,unsupported_method",
}


@pytest.mark.parametrize(
    ("chosen", "unchecked"),
    [(["--exclude-tag", "compatible"], _NOT_PROMISED["v1"]), (["--include-tag", "compatible"], _NOT_PROMISED["old"])],
    ids=["v1", "old"],
)
async def test_every_operation_answers_as_its_document_says(
    serve: Serve, tmp_path: Path, chosen: list[str], unchecked: str
) -> None:
    served = await serve(webhooks={"secret": "s"})
    await served.submit()
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"{served.url}/api/openapi.json", "--seed", _SEED, "--phases", "coverage", *chosen]
    command += ["--exclude-checks", unchecked, "--generation-database", "none"]
    command += ["--request-timeout", "10", "--continue-on-failure", "--no-color", "--warnings", "off"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
