"""Parse a command line into the job of a command with tyro; errors are one sentence."""

from __future__ import annotations

import io
import re
import textwrap
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

__all__ = ["parse"]


def parse(job: Any, name: str, words: list[str]) -> Any:
    """A command's job, filled from the words of the command line.

    Args:
        job: its class, a dataclass.
        name: of the command, for messages.
        words: after the name.

    Raises:
        OptionError: a word is no option, or a value is not possible; one sentence.
    """
    from typing import Annotated, get_type_hints

    import tyro

    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.schema import check_ranges
    from atlaseg.workflows.methods.option_groups import groups_of

    if any("\0" in word for word in words):
        raise OptionError("no name of a file and no option may hold a NUL character")
    # jobs stay free of tyro, so that Python users and tests need not know it
    for owner in (job, *groups_of(job).values()):
        hints = get_type_hints(owner, include_extras=True)
        for field in getattr(owner, "positional", ()):
            owner.__annotations__[field] = Annotated[hints[field], tyro.conf.Positional]
        for field in getattr(owner, "repeated", ()):
            owner.__annotations__[field] = Annotated[hints[field], tyro.conf.UseAppendAction]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            filled = tyro.cli(
                job,
                prog=f"atlaseg {name}",
                args=words,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as end:
        if end.code:
            raise OptionError(f"{_without_box(said.getvalue())}; see atlaseg {name} --help") from end
        raise
    check_ranges(filled)
    out = getattr(filled, "out", None)
    if isinstance(out, Path):
        # what cannot be written is refused before the work, not after it
        above = next((parent for parent in out.parents if parent.exists() or parent.is_symlink()), out)
        if not above.is_dir() and above != out:
            raise OptionError(f"--out {out}: {above} is no folder; choose another place")
    return filled


def _without_box(text: str) -> str:
    """The essential sentence of tyro's error message, without title, frame, help texts and inner errors."""
    boxed = "╭" in text  # otherwise the title stands above a rule, as where the screen takes ASCII only
    inside = [line.strip("│").rstrip() for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    rules = [place for place, line in enumerate(inside) if line.strip() and not line.strip(" ─-")]
    begin = 0 if boxed or not rules else rules.pop(0) + 1
    lines = textwrap.dedent("\n".join(inside[begin : rules[0] if rules else None])).splitlines()
    if lines and lines[0].startswith("Missing from"):
        names = [line.strip() for line in lines if re.match(" {4}[^ ]", line)]
        whats = re.split("\n {4}[^ ].*", "\n".join(lines))[1:]
        short = [re.split("[.,;:(]", " ".join(what.split()))[0].strip() for what in whats]
        return "missing: " + ", ".join(f"{n} ({w})" for n, w in zip(names, short, strict=True))
    sentence = " ".join(" ".join(lines).split()).split(" Got errors:")[0]
    for said, plain in _PLAINER.items():
        sentence = re.sub(said, plain, sentence)
    return sentence.rstrip(".")


#: What tyro says in Python's words, in plain ones.
_PLAINER = {
    "no type matching (.*) could be instantiated from": r"expected \1, found",
    r"invalid literal for int\(\) with base 10:": "expected a whole number, found",
    "could not convert string to float:": "expected a number, found",
}
