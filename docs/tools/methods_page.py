"""The reference of methods, made from the tables of the code: one row for each name, with its summary and source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module

__all__ = ["TABLES", "Table", "methods_page"]


@dataclass(frozen=True)
class Table:
    """A registry on the page.

    Args:
        title: heading.
        registry: the :class:`~atlaseg.pipeline.registry.Registry`, as ``module:name``.
        text: what one does with its names.
    """

    title: str
    registry: str
    text: str


TABLES = (
    Table(
        "Fusion rules",
        "atlaseg.atlases.fusion.registry:FUSION_RULES",
        "`--fusion NAME` of `atlaseg segment`, `--method NAME` of `atlaseg train` and `atlaseg fuse`. "
        "[What each does](../explanation/fusion.md#the-rules).",
    ),
    Table(
        "Registration engines",
        "atlaseg.atlases.registration.engines.registry:ENGINES",
        "`--engine NAME` of `atlaseg register`, `segment`, `train` and `build-atlas`. "
        "[What each can do](../explanation/registration.md#engines).",
    ),
)


def methods_page() -> str:
    """The page in Markdown."""
    parts = [
        "# Methods",
        "Made from the tables of the code. `atlas-` before a network, or before a classical method other than `knn`, "
        "[joins it with atlases](../explanation/joined.md). An installed package may add rows of its own: "
        "[add a method](../how-to/add-a-method.md).",
    ]
    for table in TABLES:
        module, name = table.registry.split(":")
        lines = ["| name | what | source |", "|---|---|---|"]
        for row in getattr(import_module(module), name).rows():
            also = "".join(f", also `{alias}`" for alias in row.aliases)
            lines.append(f"| `{row.name}`{also} | {_cell(row.summary)} | {_linked(_cell(row.source))} |")
        parts += [f"## {table.title}", table.text, '<div class="names" markdown>', "\n".join(lines), "</div>"]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _linked(text: str) -> str:
    """Make links of decisions, DOIs and addresses."""
    text = re.sub(r"docs/(decisions/)(\d+)([\w-]*\.md)", r"[decision \2](../\1\2\3)", text)
    text = re.sub(r"(?:doi:|https?://doi\.org/)(10\.[^\s,;]+[^\s,;.)])", r"[doi](https://doi.org/\1)", text)
    return re.sub(r"(?<![(\[])(https?://[^\s,;)]+[^\s,;.)])", r"<\1>", text)
