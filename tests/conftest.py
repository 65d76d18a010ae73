"""Fixtures for all tests; the real servers are in ``tests/fixtures``, one file each."""

from __future__ import annotations

from pathlib import Path

pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))]
