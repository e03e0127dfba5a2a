"""The folder ``scripts`` of a run: atlaseg's file readers, for use with MONAI alone.

``inference.yaml`` reads by the same rules as `atlaseg segment`, where atlaseg need not be installed. So that there is
one text of these rules, the folder holds copies of the very files of this package. atlaseg itself writes the folder and
never imports it.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["script_files"]

#: Where reading begins; what it imports of this package, and what that imports, is copied with it.
_FIRST = "io.monai_files"
_IMPORT = re.compile(r"^(\s*)from atlaseg\.pipeline\.((?:\w+\.)*)(\w+) import", re.MULTILINE)


def script_files() -> dict[str, str]:
    """Text of each file of ``scripts`` by name; imports of this package become those of the folder."""
    home = Path(__file__).resolve().parent
    texts: dict[str, str] = {}
    wanted = [_FIRST]
    while wanted:
        module = wanted.pop()
        if module not in texts:
            texts[module] = home.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
            wanted += [folder + name for _, folder, name in _IMPORT.findall(texts[module])]
    # the folder is flat: no two files of the package have one name
    copies = {
        f"{module.rpartition('.')[2]}.py": _IMPORT.sub(r"\1from .\3 import", text)
        for module, text in sorted(texts.items())
    }
    return {"__init__.py": '"""How atlaseg reads files, for MONAI alone."""\n', **copies}
