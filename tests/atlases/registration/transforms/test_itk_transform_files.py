from __future__ import annotations

import base64
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.frames import flip_points
from atlaseg.atlases.registration.transforms.itk_transform_files import read_itk_transform
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError, UnreadableFileError

HEAD = "#Insight Transform File V1.0\n"
COMPOSITE = "#Transform 0\nTransform: CompositeTransform_double_3_3\n"
GRID = (5.0, 5, 5, 0, 0, 0, 10, 10, 10, 1, 0, 0, 0, 1, 0, 0, 0, 1)
POINTS = np.array([[1.0, 2, 3], [-20, 10, 5], [21, 22, 23.5]])


def block(name: str, parameters: object, fixed: object = "0 0 0") -> str:
    def words(values: object) -> str:
        return values if isinstance(values, str) else " ".join(map(repr, values))  # type: ignore[call-overload]

    kind = f"#Transform 0\nTransform: {name}_double_3_3\n"
    return f"{kind}Parameters: {words(parameters)}\nFixedParameters: {words(fixed)}\n"


MATRIX = "1 0.1 0 -0.2 0.9 0 0 0 1.1 5 6 7"


def matlab(path: Path, *entries: tuple[str, list[float]]) -> Path:
    """MATLAB 4 matrices as ITK writes them."""
    with path.open("wb") as file:
        for name, values in entries:
            file.write(struct.pack("<5i", 0, len(values), 1, 0, len(name) + 1))
            file.write(name.encode("latin-1") + b"\0" + struct.pack(f"<{len(values)}d", *values))
    return path


def matrix_offset_file(path: Path) -> Path:
    """What old ANTs and c3d write: the type is the base class of all matrices."""
    name, values, centre = "MatrixOffsetTransformBase", [float(v) for v in MATRIX.split()], [1.5, -2.0, 30.0]
    if path.suffix == ".mat":
        return matlab(path, (f"{name}_double_3_3", values), ("fixed", centre))
    if path.suffix != ".h5":
        path.write_text(HEAD + block(name, values, centre))
        return path
    # SimpleITK writes no such type, but one that has as many parameters and a longer name
    other = sitk.ComposeScaleSkewVersor3DTransform()
    other.SetFixedParameters(centre)
    sitk.WriteTransform(other, str(path))
    content, kind = path.read_bytes(), b"ComposeScaleSkewVersor3DTransform_double_3_3"
    numbers = struct.pack("<12d", *other.GetParameters())
    assert (content.count(kind), content.count(numbers)) == (1, 1)
    content = content.replace(numbers, struct.pack("<12d", *values))
    path.write_bytes(content.replace(kind, f"{name}_double_3_3".encode().ljust(len(kind), b"\0")))
    return path


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5"])
def test_matrices_of_c3d_and_old_ants(tmp_path: Path, suffix: str):
    found = read_itk_transform(matrix_offset_file(tmp_path / f"t{suffix}"))
    matrix, centre = np.reshape([float(v) for v in MATRIX.split()][:9], (3, 3)), np.array([1.5, -2, 30])
    expected = (flip_points(POINTS) - centre) @ matrix.T + centre + [5, 6, 7]
    assert np.allclose(found.points(POINTS), flip_points(expected), atol=1e-9)
    assert found.is_linear
    # in a composition too, which takes them apart
    twice = Transform.compose([found, found])
    assert np.allclose(twice.points(POINTS), found.points(found.points(POINTS)), atol=1e-9)


def test_a_matrix_offset_within_a_composite(tmp_path: Path):
    shift = block("TranslationTransform", "1 2 3", "")
    (tmp_path / "t.tfm").write_text(HEAD + COMPOSITE + block("MatrixOffsetTransformBase", MATRIX) + shift)
    alone = Transform(sitk.AffineTransform([float(v) for v in MATRIX.split()[:9]], (5.0, 6, 7)))
    # ITK applies the last first
    moved = flip_points(flip_points(POINTS) + np.array([1, 2, 3]))
    assert np.allclose(read_itk_transform(tmp_path / "t.tfm").points(POINTS), alone.points(moved), atol=1e-9)


def test_a_composite_is_applied_in_the_order_of_itk(tmp_path: Path):
    parts = [
        sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3, (4, 5, 6)),
        sitk.TranslationTransform(3, (9, 8, 7)),
    ]
    for name in ("t.tfm", "t.h5"):
        sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / name))
        expected = [parts[0].TransformPoint(parts[1].TransformPoint(p)) for p in flip_points(POINTS).tolist()]
        assert np.allclose(
            read_itk_transform(tmp_path / name).points(POINTS), flip_points(np.array(expected))
        )


#: Translations by (1, 2, 3) and (4, 5, 6) in one HDF5 file, as ITK 5.4 writes a list (which SimpleITK cannot).
TWO = """
eNrr9HBx4+WS4mLi4GCAgf9QMEEBwjeAipevrjjo7+ESxKSwq5UtGxlXMAkha4QBLiYGRgYGNlEGIMXlGeIdllpUnJmfdxhqHlQC6AKoxH1GiISAAAPD
M1YI24oBIWYMFVOAO9V4e+ZUsJMU0Z3EwMgowsDAxAgEULUwmlmEgVESyBFggGCIOAcDK9C1zEwcQJ8wMzJAQ0MAZtEGhiEHbCxWGdAibAQkhn7Y+LTe
cqJF2CgMg7DxEl9TQouwMRgGYXNhj/Z9f2cPbzYRkB85/YOhJZc4C0TeZElKIzlFJA/IOEYDBTZoyQjhG3ZIQe21IN/Jx1mVTcFOFgSZyeYf7JeYm/qb
CWqRJEiQL6QoMa84Lb8o170ov7QgGFrMfgusu0uOZyRAZvLCzQypLEjdDPOYMkhOAi7nllmRmhKQWAR0UgkwJAMkEIX9eXYIW4sBKa3d5vuwgBZp02EY
pM27O2oiwBEtB/KjMDyMEcGbIwlRWayaPgWqCRTVAhyIAHN39vdhRAoJRiR1IGCqZ6JnDqSh6YdBBkoDK3FThZzMpKLEokqFMkimsFIw1DM00jMERwKa
OT6ZeaUVQBqabxj4obSZnqGFnomJblqybpm5hRFcvTyUBvsqJ7EEaDzcg/Ep+aVJOanxxvHGDGwkqocBAX6GUTAKRsEoGAWjYBSMglEwCkbBKBgFo2DE
ABmk8QAmtPEBZmg/HcZngfazYXyQWkKDM+j2gQZnBBXsoePtDgwm3Awm/4EWgQdnuCCDM7DhJbimITg4w1cx9SKhsIGNkTCTEDYBChC1EkM4bAKebtCg
0jijtDTESALjjObQYSvQOGO+HISNMs4o58F1gxbjjBnQ6BrK44wW+6qER7M5fbN5xTDI5t5FHBfxj08Hy0JU1uvcyxitiocw+GAPZThAKA4H5HYCG1yd
AFReBEpLOAAAtpiJeQ==
"""


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5"])
def test_several_transforms_without_an_order(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]):
    file = tmp_path / f"list{suffix}"
    if suffix == ".h5":
        file.write_bytes(zlib.decompress(base64.b64decode(TWO)))
    elif suffix == ".mat":
        shifts = [("TranslationTransform_double_3_3", [1.0, 2, 3]), ("fixed", [])]
        matlab(file, *shifts, *shifts)
    else:
        file.write_text(HEAD + 2 * block("TranslationTransform", "1 2 3", ""))
    with pytest.raises(UnreadableFileError, match="2 transforms without a CompositeTransform at the begin"):
        read_itk_transform(file)
    assert capfd.readouterr() == ("", "")


def spline(name: str, grid: tuple[float, ...], count: int = 375) -> str:
    return block(name, [0.0] * count, grid)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Transform: AffineTransform_double_3_3\nParameters: 1 2\n", "no line of FixedParameters"),
        (block("AffineTransform", "1 0 0 0 1 0 0 0 1"), "takes 12 parameters, found 9"),
        (
            block("AffineTransform", "1 0 0 0 1 0 0 0 0 0 0 0"),
            "the matrix of the AffineTransform is singular",
        ),
        (block("AffineTransform", "1 0 0 0 1 0 0 0 1 0 0 nan"), "NaN or infinite"),
        (block("AffineTransform", "1 0 0 0 1 0 0 0 1 0 0 x"), "parameters are numbers"),
        (block("AffineTransform", "1 0 0 0 1 0 0 0 1 0 0 1_0"), "parameters are numbers"),
        (block("Similarity3DTransform", "0 0 0 1 2 3 0"), "singular"),
        (spline("BSplineTransform", GRID, 300), "takes 375 parameters, found 300"),
        (
            spline("BSplineTransform", (*GRID[:6], 0, 10, 10, *GRID[9:])),
            "spacing of its grid must be above 0",
        ),
        (spline("BSplineTransform", (1e9, 1e9, 1e9, *GRID[3:])), "control points takes"),
        (spline("BSplineTransform", (-5, *GRID[1:])), "at least 4 control points along each axis, found -5"),
        (spline("BSplineTransform", (*GRID[:9], *[0.0] * 9)), "lie in a plane"),
        (spline("DisplacementFieldTransform", GRID, 300), "takes 375 parameters, found 300"),
        (COMPOSITE, "a CompositeTransform without parts"),
        (COMPOSITE + block("AffineTransform", "1 0 0 0 1 0 0 0 0 0 0 0"), "singular"),
        (COMPOSITE + spline("BSplineTransform", GRID, 300), "takes 375 parameters, found 300"),
        (block("TranslationTransform", "1 2 3", "") + COMPOSITE, "here one stands in another place"),
        (block("FooTransform", "1"), "a type of transform that is not known here"),
        ("Transform: words\nParameters: 1\nFixedParameters: \n", "'words' is not a type of 3-D transform"),
        ("Parameters: 1\n", "line 2: Parameters of no transform"),
        ("words\n", "line 2: expected 'Transform: '"),
    ],
)
def test_text_that_itk_would_misread_or_not_survive(tmp_path: Path, text: str, message: str):
    (tmp_path / "t.tfm").write_text(HEAD + text)
    with pytest.raises(UnreadableFileError) as caught:
        read_itk_transform(tmp_path / "t.tfm")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 't.tfm'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("AffineTransform_double_3_3", [1.0] * 9), ("fixed", [0.0] * 3)], "takes 12 parameters, found 9"),
        ([("AffineTransform_double_3_3", [1.0] * 12), ("fixed", [0.0] * 3)], "singular"),
        ([("AffineTransform_double_3_3", [np.nan] * 12), ("fixed", [0.0] * 3)], "NaN or infinite"),
        ([("BSplineTransform_double_3_3", [0.0] * 9), ("fixed", [*GRID])], "takes 375 parameters, found 9"),
        ([("M", [1.0] * 16)], "expected parameters and then a matrix 'fixed', found M"),
        ([("M", [1.0] * 16), ("fixed", [0.0])], "'M' is not a type of 3-D transform"),
        (
            [("\xc4ffineTransform_double_3_3", [1.0] * 12), ("fixed", [0.0] * 3)],
            "is not a type of 3-D transform",
        ),
    ],
)
def test_matlab_files(tmp_path: Path, entries: list, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read_itk_transform(matlab(tmp_path / "t.mat", *entries))
    assert message in str(caught.value)


def test_a_matlab_file_that_ends_early(tmp_path: Path):
    file = matlab(tmp_path / "t.mat", ("AffineTransform_double_3_3", [1.0] * 12), ("fixed", [0.0] * 3))
    content = file.read_bytes()
    for cut in range(1, len(content)):
        file.write_bytes(content[:cut])
        with pytest.raises(
            UnreadableFileError, match=r"is it truncated|damaged one|expected parameters and then"
        ):
            read_itk_transform(file)


def hdf5(path: Path, kind: str, grid: tuple[float, ...], within: bool) -> Path:
    """HDF5 of a spline or a field whose grid is then overwritten."""
    if kind == "spline":
        itk: sitk.Transform = sitk.BSplineTransform(3)
        itk.SetFixedParameters(GRID)
        itk.SetParameters(list(np.arange(375) / 100))
    else:
        image = sitk.Image(5, 5, 5, sitk.sitkVectorFloat64)
        image.SetSpacing((10, 10, 10))
        itk = sitk.DisplacementFieldTransform(image)
    sitk.WriteTransform(sitk.CompositeTransform([itk, sitk.Euler3DTransform()]) if within else itk, str(path))
    content, before = path.read_bytes(), struct.pack("<18d", *GRID)
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, struct.pack("<18d", *grid)))
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["spline", "field"])
@pytest.mark.parametrize(
    "grid",
    [
        (1e9, 1e9, 1e9, *GRID[3:]),
        (-5.0, *GRID[1:]),
        (*GRID[:6], 0.0, 10, 10, *GRID[9:]),
        (*GRID[:6], *[float("nan")] * 3, *GRID[9:]),
        (*GRID[:3], *[float("inf")] * 3, *GRID[6:]),
        (*GRID[:9], *[0.0] * 9),
        (6.0, *GRID[1:]),
    ],
    ids=["huge", "negative", "spacing", "nan", "infinite", "plane", "count"],
)
def test_hdf5_that_itk_does_not_survive(
    tmp_path: Path, kind: str, grid: tuple[float, ...], capfd: pytest.CaptureFixture[str]
):
    for within in (False, True) if kind == "spline" else (True,):
        with pytest.raises(UnreadableFileError) as caught:
            read_itk_transform(hdf5(tmp_path / "t.h5", kind, grid, within))
        assert str(caught.value).startswith(f"{tmp_path / 't.h5'}: ")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_hdf5_with_matrices_that_cannot_be(tmp_path: Path):
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, 0))
    for itk in (flat, sitk.CompositeTransform([sitk.Euler3DTransform(), flat])):
        sitk.WriteTransform(itk, str(tmp_path / "t.h5"))
        with pytest.raises(UnreadableFileError, match="the matrix of the AffineTransform is singular"):
            read_itk_transform(tmp_path / "t.h5")


def test_files_of_our_own_are_not_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = hdf5(tmp_path / "t.h5", "spline", GRID, False)
    calls: list[object] = []
    run = subprocess.run

    def counted(*words, **options):
        calls.append(words)
        return run(*words, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    read_itk_transform(file, own=True)
    assert not calls
    read_itk_transform(file)
    assert len(calls) == 1


def test_planes(tmp_path: Path):
    text = "Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 0 0\nFixedParameters: 0 0\n"
    (tmp_path / "t.tfm").write_text(HEAD + text)
    with pytest.raises(OptionError, match="transforms of volumes are 3-D, this one is 2-D"):
        read_itk_transform(tmp_path / "t.tfm")


@pytest.mark.parametrize("suffix", [".tfm", ".TXT", ".Mat", ".H5"])
def test_capital_letters_and_line_ends_of_windows(tmp_path: Path, suffix: str):
    affine = sitk.AffineTransform([float(v) for v in MATRIX.split()[:9]], (5.0, 6, 7))
    lower = tmp_path / f"a{suffix.lower()}"
    sitk.WriteTransform(affine, str(lower))
    content = lower.read_bytes()
    if suffix.lower() in (".tfm", ".txt"):
        content = content.replace(b"\n", b"\r\n")
    (tmp_path / f"A{suffix}").write_bytes(content)
    found = read_itk_transform(tmp_path / f"A{suffix}")
    assert np.allclose(found.points(POINTS), Transform(affine).points(POINTS), atol=1e-12)
    (tmp_path / f"B{suffix}").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableFileError) as caught:
        read_itk_transform(tmp_path / f"B{suffix}")
    assert str(caught.value).startswith(f"{tmp_path / f'B{suffix}'}: ")
