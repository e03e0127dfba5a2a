"""What mkdocs calls while it builds the site: pages made from the code, and the list of decisions."""

from __future__ import annotations

import re
from pathlib import Path

from command_page import command_page
from methods_page import methods_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]


def on_config(config: MkDocsConfig) -> None:
    """Put every decision below its heading in the navigation."""
    for section in config.nav or ():
        for entry in section.get("Reference", ()):
            if "Decisions" in entry:
                entry["Decisions"] += [f"decisions/{path.name}" for path in _decisions()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that no file in ``docs/`` holds."""
    for name, content in {
        "reference/commands.md": command_page(),
        "reference/methods.md": methods_page(),
        "reference/changelog.md": _changelog(),
        "decisions/index.md": _decision_index(),
    }.items():
        files.append(File.generated(config, name, content=content))


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse pages that would load anything from elsewhere: hospital machines are offline."""
    loads = re.compile(r"""(?:\bsrc=|<link [^>]*\bhref=|url\()["']?(?:https?:)?//[^"' )>]+""")
    for page in (path for kind in ("html", "css") for path in Path(config.site_dir).rglob(f"*.{kind}")):
        if found := loads.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page}: would load {found[0]} from the network; keep a copy in docs/assets")


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def _decision_index() -> str:
    titles = {path.name: path.read_text().splitlines()[0].removeprefix("# ") for path in _decisions()}
    lines = [f"- [{re.sub('^[0-9]+[.] ', '', title)}]({name})" for name, title in titles.items()]
    return (
        "# Decisions\n\nWhy things are as they are, one page each, numbered in order of time.\n\n"
        + "\n".join(re.sub("^- ", f"{number}. ", line) for number, line in enumerate(lines, 1))
    )


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text().replace("# Changelog", "# Changes", 1)
