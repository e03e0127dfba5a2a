"""The phantom job."""

import dataclasses
import os
import subprocess
import sys

import pytest

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.volume import read_header
from atlaseg.workflows.phantom import Phantom


@pytest.mark.parametrize(
    ("kind", "first", "structures"),
    [
        ("noisy-spheres", "shapes_000", "sphere"),
        ("ellipsoids-and-boxes", "shapes_000", "ellipsoid, box"),
        ("brain", "phantom_000", "deep grey matter"),
    ],
)
def test_writes_what_was_asked_for(tmp_path, capsys, kind, first, structures):
    out = tmp_path / "deep" / "set"
    assert Phantom(out, subjects=2, seed=3, kind=kind).run() == 0
    assert (out / "dataset.json").is_file()
    assert len(list((out / "imagesTr").iterdir())) == len(list((out / "labelsTr").iterdir())) == 2
    assert min(read_header(out / "imagesTr" / f"{first}.nii.gz").shape) >= 55
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "2 labelled scans" in line
    assert structures in line


def test_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OptionError, match="not empty"):
        Phantom(tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_refuses_an_unknown_kind(tmp_path):
    with pytest.raises(OptionError, match="noisy-spheres"):
        Phantom(tmp_path / "set", kind="cubes").run()


def test_is_a_frozen_job_with_out_first():
    job = Phantom(out="x")
    assert Phantom.positional == ("out",)
    assert [f.name for f in dataclasses.fields(job)] == ["out", "subjects", "seed", "kind"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 1


def test_importing_the_job_loads_no_heavy_library():
    code = (
        "import sys, atlaseg.workflows.phantom\n"
        "print([m for m in ('torch', 'scipy', 'nibabel', 'nilearn') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "[]"
