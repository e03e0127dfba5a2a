from __future__ import annotations

from pathlib import Path

import pytest

from atlaseg.atlases.registration.transforms.foreign_transforms import foreign_transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform
from atlaseg.pipeline.errors import AtlasegError

MATRIX = "1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
FILES = {
    "flirt.mat": (MATRIX, "FLIRT: c3d_affine_tool -ref FIXED -src MOVING flirt.mat -fsl2ras"),
    "greedy.mat": (MATRIX.replace("\n", " \n"), "greedy: c3d_affine_tool greedy.mat -oitk"),
    "comma.txt": (MATRIX.replace(" ", ","), "a matrix as plain text"),
    "three_rows.tfm": (MATRIX[:24], "a matrix as plain text"),
    "noext": (MATRIX, "a matrix as plain text"),
    "a.lta": ("type      = 1 # LINEAR_RAS_TO_RAS\nnxforms   = 1\n", "lta_convert --inlta a.lta"),
    "lta.txt": ("type      = 1\nnxforms   = 1\n", "lta_convert --inlta lta.txt"),
    "register.dat": ("subject\n1\n1\n0.1\n", "lta_convert --inreg register.dat"),
    "a.aff12.1D": ("# 3dAllineate matrices\n1 0 0 5 0 1 0 0 0 0 1 0\n", "a matrix of AFNI"),
    "afni.txt": ("1 0 0 5 0 1 0 0 0 0 1 0\n", "a matrix of AFNI"),
    "a.xfm": ("MNI Transform File\n", "itk_convert_xfm a.xfm"),
    "xfm.txt": ("MNI Transform File\n", "itk_convert_xfm xfm.txt"),
    "numbers.txt": ("1 2\n3\n", "a text file of numbers that does not say what they are"),
    "comment.txt": ("// only a comment\n", "a text file without any transform"),
    "head.tfm": ("#Insight Transform File V1.0\n", "a text file without any transform"),
    "spm.mat": ("MATLAB 5.0 MAT-file, Platform: GLNXA64" + " " * 90, "MATLAB 5 or later, as SPM"),
    "empty.txt": ("", "an empty file"),
    "empty.mat": ("", "an empty file"),
    "empty.h5": ("", "an empty file"),
    "field.mha": ("ObjectType = Image\n", "an image; a displacement field is read as .nii.gz"),
    "warp.m3z": ("\x1f\x8b", "mri_warp_convert --inm3z warp.m3z"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_says_what_it_is_and_what_to_do(tmp_path: Path, name: str):
    text, message = FILES[name]
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert message in str(foreign_transform(tmp_path / name))
    with pytest.raises(AtlasegError) as caught:
        read_transform(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: not a transform")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder(tmp_path: Path):
    (tmp_path / "t.h5").mkdir()
    with pytest.raises(AtlasegError, match=r"t\.h5: not a transform but a folder"):
        read_transform(tmp_path / "t.h5")


def test_what_is_not_seen_as_foreign(tmp_path: Path):
    for name, content in {
        "t.tfm": b"#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n",
        "t.mat": bytes(200),
        "t.h5": b"\x89HDF\r\n\x1a\n" + bytes(90),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert foreign_transform(tmp_path / name) is None
