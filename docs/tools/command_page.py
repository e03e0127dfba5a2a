"""The reference of the command line, made from what ``atlaseg COMMAND --help`` says."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from unittest.mock import patch

__all__ = ["Help", "command_page", "parse_help"]

#: As wide as boxes still stand below each other.
_COLUMNS = "129"


@dataclass
class Help:
    """The parts of one command's help: usage, description, and for each panel its options with their texts.

    ``about`` has what a panel says of all its options, if it does.
    """

    usage: str
    description: str
    panels: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)


def command_page() -> str:
    """The page in Markdown: every command with its options, in the order of the overview."""
    from atlaseg.workflows.console.commands import COMMANDS, STUDIES

    parts = [
        "# Command line",
        "Made from the code: the same texts as `atlaseg COMMAND --help`. Every command exits with 0 when it is done, "
        "with 1 when it is done except for the cases that it lists, and with 2 when the data or the command are "
        "wrong. `atlaseg --version` prints the version.",
    ]
    for row in COMMANDS.rows():
        parts += [f"## `atlaseg {row.name}`", f"*{row.summary}*", *_section(help_of(row.name))]
    parts += ["## `atlaseg study`", "Measurements for those who work on atlaseg itself."]
    for row in STUDIES.rows():
        name = f"study {row.name}"
        parts += [f"### `atlaseg {name}`", f"*{row.summary}*", *_section(help_of(name))]
    return "\n\n".join(parts) + "\n"


def help_of(name: str) -> Help:
    """What ``atlaseg NAME --help`` prints, in parts."""
    from atlaseg.workflows.cli import main

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # boxes are drawn where the screen can show them
    with patch.dict(os.environ, {"COLUMNS": _COLUMNS, "NO_COLOR": "1"}), redirect_stdout(said):
        try:
            main([*name.split(), "--help"])
        except SystemExit as end:
            if end.code:
                raise
    said.seek(0)
    return parse_help(said.read())


def parse_help(text: str) -> Help:
    """Take apart what tyro prints: usage, description, boxes with a title.

    Raises:
        ValueError: the text does not look like that.
    """
    head, *boxes = re.split(r"^╭─ (.*?) ─*╮\n", text, flags=re.MULTILINE)
    usage, _, description = head.strip().partition("\n\n")
    if not boxes or not usage.startswith("usage: "):
        raise ValueError(f"not a help text of tyro's: {text[:200]!r}")
    found = Help(usage.removeprefix("usage: "), description.strip())
    for title, box in zip(boxes[::2], boxes[1::2], strict=True):
        rows: list[tuple[str, str]] = []
        inside = [
            raw.removeprefix("│ ").removesuffix("│").rstrip() for raw in box.splitlines() if raw[:1] == "│"
        ]
        lines = [line for line in inside if line.strip()]
        rule = next((place for place, line in enumerate(lines) if not line.strip("─ ")), None)
        if rule is not None:  # what stands above it is said of the whole panel
            found.about[title] = " ".join(" ".join(lines[:rule]).split())
            lines = lines[rule + 1 :]
        for line in lines:
            if line.startswith("-h, --help"):
                continue
            if not line.startswith(" "):  # an option; its text begins after two blanks, or on the next line
                option, _, said = line.partition("  ")
                rows.append((option, said.strip()))
            elif rows:
                rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}".strip())
            else:
                raise ValueError(f"a text without an option in the box {title!r}: {line!r}")
        if rows:
            found.panels[title] = rows
    return found


def _section(found: Help) -> list[str]:
    parts = [f"```text\n{found.usage}\n```", found.description]
    for title, rows in found.panels.items():
        if title in found.about:
            parts.append(f"**{title}.** {found.about[title]}")
        lines = [f"| {title} | |", "|---|---|"]
        lines += [f"| {_code(option)} | {_cell(said)} |" for option, said in rows]
        parts.append("\n".join(lines))
    return parts


def _code(option: str) -> str:
    plain = re.sub(r"\{None\}\|", "", option).replace("{None,", "{")
    return f"`{plain}`".replace("|", r"\|")


def _cell(said: str) -> str:
    plain = said.replace(" (default: None)", "").replace(" (default: )", "").replace(" (default: False)", "")
    return plain.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
