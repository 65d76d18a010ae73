"""The order of the pages; those that are not named here follow, so that a new page is never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ORDER: dict[str, tuple[str, ...]] = {
    "Use": ("getting-started", "user-guide", "gallery", "api", "client", "models", "migration", "glossary"),
    "Operate": (
        "deploy",
        "operate",
        "cost",
        "security",
        "troubleshooting",
        "reliability",
        "performance",
        "observability",
        "events",
        "storage",
        "autoscaler",
        "containers",
    ),
    "Develop": ("developer", "architecture", "custom-job"),
}
HERE = Path(__file__).parent


def on_config(config: Any) -> Any:
    """Give MkDocs the pages that exist, in order."""
    named = {name for names in ORDER.values() for name in names}
    nav: list[Any] = [{"Welcome": "index.md"}]
    for title, names in ORDER.items():
        pages = [f"{name}.md" for name in names if (HERE / f"{name}.md").is_file()]
        nav.append({title: pages})
    more = [p.name for p in sorted(HERE.glob("*.md")) if p.stem not in named and p.stem != "index"]
    runbooks = [f"runbooks/{p.name}" for p in sorted((HERE / "runbooks").glob("*.md"))]
    if more:
        nav.append({"More": more})
    if runbooks:
        nav.append({"Runbooks": runbooks})
    config["nav"] = nav
    return config
