"""The folder ``scripts`` of a run: how atlaseg reads files, for MONAI alone.

``inference.yaml`` reads by the same rules as `atlaseg segment`, where atlaseg need not be installed. So that there is
one text of these rules, the folder holds copies of the very files of this package. atlaseg itself writes the folder and
never imports it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["script_files"]

#: Files of this package that reading needs, besides MONAI, torch, NumPy and nibabel.
_COPIED = (
    *("errors.py", "files.py", "grid.py", "header.py", "monai_files.py", "nifti_file.py", "scan_names.py"),
    "volume.py",
)


def script_files() -> dict[str, str]:
    """Text of each file of ``scripts`` by name; imports of this package become those of the folder."""
    home = Path(__file__).resolve().parent
    copies = {
        name: (home / name).read_text(encoding="utf-8").replace("from pipeline.", "from .")
        for name in _COPIED
    }
    return {"__init__.py": '"""How atlaseg reads files, for MONAI alone."""\n', **copies}
