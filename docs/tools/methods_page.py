"""The reference of methods and their parts, made from what ``atlaseg methods`` lists."""

from __future__ import annotations

import re

__all__ = ["methods_page"]

#: Where a kind is explained; kinds of the list that are not here stand without a link.
EXPLAINED = {
    "network": "[How a network is planned](../explanation/planning.md).",
    "atlas": "[What each rule does](../explanation/fusion.md#the-rules).",
    "joined": "[How they are joined](../explanation/joined.md).",
    "classical": "[How they work](../explanation/classical.md).",
    "atlas-classical": "[How atlases help them](../explanation/joined.md#classical-methods-with-atlases).",
    "layout": "[What each looks like](../how-to/data.md).",
    "engine": "[What each can do](../explanation/registration.md#engines).",
    "metric": "[Definitions](../explanation/scores.md#one-row-of-the-table).",
}


def methods_page() -> str:
    """The page in Markdown."""
    from atlaseg.workflows.list_methods import PARTS, entries_of, own_options
    from atlaseg.workflows.methods.families import FAMILIES

    parts = [
        "# Methods",
        "What `atlaseg methods` lists. `--method` of `atlaseg train` and `--methods` of `atlaseg benchmark` take "
        "the names of methods; `atlaseg methods NAME` says which options they take. An installed package may add rows "
        "of its own: [add a method](../how-to/add-a-method.md).",
    ]
    plurals = {family.name: family.plural for family in FAMILIES}
    plurals |= {kind: plural for kind, (_, plural) in PARTS.items()}
    for kind, plural in plurals.items():
        lines = ["| name | what | options of its own | source |", "|---|---|---|---|"]
        for entry in (entries := entries_of(kind)):
            also = "".join(f", also `{alias}`" for alias in entry.aliases)
            options = ", ".join(f"`{option}`" for option in own_options(entry.method).split(", ") if option)
            cells = (f"`{entry.name}`{also}", _cell(entry.summary), options, _linked(_cell(entry.row.source)))
            lines.append(f"| {' | '.join(cells)} |")
        if entries:
            explained = [EXPLAINED[kind]] if kind in EXPLAINED else []
            heading = f"## {plural[0].upper()}{plural[1:]}"
            parts += [heading, *explained, '<div class="names" markdown>', "\n".join(lines), "</div>"]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _linked(text: str) -> str:
    """Make links of decisions, DOIs and addresses."""
    text = re.sub(r"docs/(decisions/)(\d+)([\w-]*\.md)", r"[decision \2](../\1\2\3)", text)
    text = re.sub(r"(?:doi:|https?://doi\.org/)(10\.[^\s,;]+[^\s,;.)])", r"[doi](https://doi.org/\1)", text)
    return re.sub(r"(?<![(\[])(https?://[^\s,;)]+[^\s,;.)])", r"<\1>", text)
