"""schemathesis reads the OpenAPI document and tries every operation: what is answered is what is promised."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.fixtures.frontend import Serve

_SEED = "20240501"
_HOOKS = "tests.integration.frontend.schema_hooks"
_ROOT = Path(__file__).parents[3]
#: The compatible API must answer 404 to any method that it has not.
_OLD = ["--include-tag", "compatible", "--exclude-checks", "unsupported_method"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chosen", [["--exclude-tag", "compatible"], _OLD], ids=["v1", "old"])
async def test_every_operation_answers_as_its_document_says(serve: Serve, tmp_path: Path, chosen: list[str]) -> None:
    served = await serve(webhooks={"secret": "s"})
    await served.submit()
    _, stored = await served.upload()
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"{served.url}/api/openapi.json", "--seed", _SEED, "--phases", "coverage", *chosen]
    command += ["--generation-database", "none", "--request-timeout", "10", "--continue-on-failure"]
    command += ["--no-color", "--warnings", "off"]
    given = {"SCHEMATHESIS_HOOKS": _HOOKS, "PYTHONPATH": str(_ROOT), "KIOSK_TEST_FILE": stored["uploadedName"]}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path, env={**os.environ, **given},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
