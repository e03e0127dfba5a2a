"""The run's copy of how files are read: complete by itself, and the very rules of this package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from atlaseg.pipeline.bundle import write_scripts
from atlaseg.pipeline.bundle_scripts import script_files

ALONE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pipeline", "workflows", "atlases", "configs", "atlaseg"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
from scripts.monai_files import VolumeReader, dataset_near
import scripts.dataset_search
voxels, meta = VolumeReader().get_data(VolumeReader().read(sys.argv[2]))
print(voxels.sum(), meta["affine"].tolist())
VolumeReader(stop=True).get_data(VolumeReader().read(sys.argv[2] + ".missing"))
"""


@pytest.mark.thorough
def test_it_reads_without_this_package_and_refuses_in_one_line(build, tmp_path: Path) -> None:
    write_scripts(tmp_path)
    voxels = build.noise()
    scan = build.volume(tmp_path / "scan.nii.gz", voxels)
    command = [sys.executable, "-c", ALONE, str(tmp_path), str(scan)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    identity = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    assert ended.stdout.split(maxsplit=1)[1].strip() == str(identity)
    assert float(ended.stdout.split()[0]) == pytest.approx(float(voxels.sum()))
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"{scan}.missing: no such file"


def test_nothing_of_this_package_is_left_to_import() -> None:
    assert "monai_files.py" in script_files()
    for name, text in script_files().items():
        imported = [
            alias.name if isinstance(node, ast.Import) else f"{'.' * node.level}{node.module or ''}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        assert [module for module in imported if module.partition(".")[0] == "atlaseg"] == [], name
