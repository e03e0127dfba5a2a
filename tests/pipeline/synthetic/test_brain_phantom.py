"""Phantoms: one anatomy behind image and labels, warps that do not fold, files that read back."""

import hashlib
import itertools
import json

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.datasets.modality import hounsfield_units
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.volume import read_header, read_image, read_label_map, same_grid
from atlaseg.pipeline.synthetic import brain_phantom as phantom
from atlaseg.pipeline.synthetic.brain_phantom import (
    BRAIN_LABELS,
    Variation,
    jacobian_determinant,
    make_subject,
    write_phantom,
)
from atlaseg.pipeline.synthetic.brain_template import load_brain_template

COARSE = (4.0, 4.0, 4.0)
NONE = Variation(**dict.fromkeys(vars(Variation()), 0.0) | {"deformation_grid_mm": 32.0})


def volumes_ml(subject):
    voxel = abs(np.linalg.det(subject.affine[:3, :3])) / 1000
    return {name: float((subject.label == v).sum()) * voxel for v, name in BRAIN_LABELS.structures.items()}


def centre_mm(subject, value):
    return nib.affines.apply_affine(subject.affine, np.argwhere(subject.label == value).mean(axis=0))


@pytest.mark.thorough
def test_default_subject_is_small():
    image, label, affine = make_subject(3)
    assert image.shape == label.shape
    assert np.prod(image.shape) < 1.3 * 64 * 80 * 70
    assert image.dtype == np.int16
    assert label.dtype == np.uint8
    assert affine.shape == (4, 4)


@pytest.mark.thorough
def test_same_seed_same_arrays_other_seed_others():
    first, again, other = (make_subject(seed, spacing=COARSE) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.affine, other.affine)
    assert first.image.shape != other.image.shape or not np.array_equal(first.label, other.label)


@pytest.mark.thorough
def test_without_variation_labels_are_those_of_the_template():
    subject = make_subject(0, spacing=(2, 2, 2), variation=NONE)
    template = load_brain_template()
    np.testing.assert_allclose(np.linalg.norm(subject.affine[:3, :3], axis=0), 2)
    # An independent way to the same labels: nearest voxel of the template on its own grid of 1 mm.
    index = np.indices(subject.label.shape).reshape(3, -1).T
    points = nib.affines.apply_affine(subject.affine, index) + template.centre
    voxel = np.rint(nib.affines.apply_affine(np.linalg.inv(template.affine), points)).astype(int)
    inside = ((voxel >= 0) & (voxel < template.t1.shape)).all(axis=1)
    at = tuple(voxel[inside].T)
    tissue = np.where(template.t1 > 0, template.tissues.argmax(axis=0) + 1, 0)[at]
    label = subject.label.ravel()[inside]
    merged = np.array([0, 1, 2, 3, 1, 2])[label]
    for value in (1, 2, 3):
        overlap = 2 * ((merged == value) & (tissue == value)).sum()
        assert overlap / ((merged == value).sum() + (tissue == value).sum()) > (0.65 if value == 1 else 0.93)
    assert not subject.label.ravel()[~inside].any()
    # without contrast, bias and noise the image is the template's T1 in some unit
    t1, image = template.t1[at], subject.image.ravel()[inside]
    both = (t1 > 0) & (image > 0)
    assert np.corrcoef(t1[both], image[both])[0, 1] > 0.95


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(8))
def test_subject_is_plausible(seed):
    subject = make_subject(seed, spacing=(3, 3, 3))
    volume = volumes_ml(subject)
    # adult brains, and what the cut through the template leaves of them
    assert 1300 < sum(volume.values()) < 2400
    assert 700 < volume["grey matter"] < 1600
    assert 350 < volume["white matter"] < 850
    assert 15 < volume["CSF"] < 350
    assert 3 < volume["lateral ventricles"] < 45
    assert 10 < volume["deep grey matter"] < 65
    mean = [subject.image[subject.label == value].mean() for value in range(6)]
    assert mean[0] < mean[1] < mean[2] < mean[3], "CSF < grey < white in T1"
    assert max(mean[1], mean[4]) < mean[5] < mean[3]
    border = subject.label.copy()
    border[1:-1, 1:-1, 1:-1] = 0
    assert not border.any(), "the field of view cuts the brain"


@pytest.mark.thorough
def test_labels_follow_the_warp():
    """Where image and labels are of one anatomy, edges of the labels are edges of the image."""
    for seed in range(3):
        image, label, _ = make_subject(seed, spacing=(3, 3, 3), variation=Variation(noise=0, bias=0, blur=0))
        aligned, shifted = (
            np.corrcoef(image[label > 0], np.array([0, 1, 2, 3, 1, 2])[moved][label > 0])[0, 1]
            for moved in (label, np.roll(label, 2, axis=0))
        )
        assert aligned > 0.75
        assert aligned > shifted + 0.2


@pytest.mark.thorough
def test_subjects_differ():
    subjects = [make_subject(seed, spacing=COARSE) for seed in range(4)]
    for a, b in itertools.combinations(subjects, 2):
        shape = np.minimum(a.label.shape, b.label.shape)
        box = tuple(slice(n) for n in shape)
        white, other = a.label[box] == 3, b.label[box] == 3
        assert 2 * (white & other).sum() / (white.sum() + other.sum()) < 0.85
    brightest = [np.percentile(s.image[s.label == 3], 90) for s in subjects]
    assert max(brightest) > 1.5 * min(brightest), "arbitrary units, as in MRI"
    assert {hounsfield_units(s.image) for s in subjects} == {"no"}


@pytest.mark.thorough
@pytest.mark.parametrize("deformation", [3.0, 30.0])
def test_warps_do_not_fold(deformation):
    change = Variation(deformation_mm=deformation)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shape, affine = phantom._scan_grid(rng, COARSE, change)
        points = phantom._warped_points(rng, shape, affine, change)
        jacobian = jacobian_determinant(points, affine)
        assert jacobian.min() >= phantom.SMALLEST_JACOBIAN
        assert jacobian.max() > 1.2
        # neighbours keep their order along every axis, which is what folding would break
        steps = np.tensordot(np.linalg.inv(affine[:3, :3]), points, axes=1)
        assert all(np.diff(steps[axis], axis=axis).min() > 0 for axis in range(3))


def test_deformation_has_the_stated_size():
    displacements = []
    for seed in range(12):
        affine = np.diag([6.0, 6.0, 6.0, 1.0])
        affine[:3, 3] = (-78, -99, -78)
        shape = (27, 34, 27)
        points = phantom._warped_points(np.random.default_rng(seed), shape, affine, Variation())
        grid = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        displacements.append(np.moveaxis(points, 0, -1) - grid)
    assert np.std(displacements) == pytest.approx(Variation().deformation_mm, rel=0.1)


def test_jacobian_of_a_known_map():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    points = np.moveaxis(nib.affines.apply_affine(affine, np.moveaxis(np.indices((5, 6, 7)), 0, -1)), -1, 0)
    matrix = np.array([[1.1, 0.2, 0], [0, 0.9, -0.1], [0.3, 0, 1.2]])
    jacobian = jacobian_determinant(np.tensordot(matrix, points, axes=1), affine)
    np.testing.assert_allclose(jacobian, np.linalg.det(matrix))
    assert (jacobian_determinant(points * np.array([-1, 1, 1])[:, None, None, None], affine) < 0).all()


@pytest.mark.thorough
def test_another_spacing_scans_the_same_head():
    fine, thick = make_subject(4, spacing=(3, 3, 3)), make_subject(4, spacing=(2.5, 2.5, 5))
    a, b = volumes_ml(fine), volumes_ml(thick)
    assert sum(a.values()) == pytest.approx(sum(b.values()), rel=0.02)
    assert a["white matter"] == pytest.approx(b["white matter"], rel=0.1)
    assert a["lateral ventricles"] == pytest.approx(b["lateral ventricles"], rel=0.3)
    for value in (2, 3, 5):
        np.testing.assert_allclose(centre_mm(fine, value), centre_mm(thick, value), atol=1.5)


@pytest.mark.thorough
@pytest.mark.parametrize("orientation", ["LPS", "PSR", "SAL"])
def test_orientation_moves_the_array_and_not_the_anatomy(orientation):
    plain, turned = make_subject(2, spacing=COARSE), make_subject(2, spacing=COARSE, orientation=orientation)
    assert "".join(nib.aff2axcodes(turned.affine)) == orientation
    back = nib.as_closest_canonical(nib.Nifti1Image(turned.image, turned.affine))
    np.testing.assert_allclose(back.affine, plain.affine, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(back.dataobj), plain.image)
    np.testing.assert_allclose(centre_mm(turned, 4), centre_mm(plain, 4), atol=1e-9)


def test_left_is_left_and_front_is_front():
    """Anatomy in mm: ventricles above deep grey matter, cerebellum and occipital lobe behind the origin."""
    subject = make_subject(7, spacing=COARSE, orientation="LPS")
    assert centre_mm(subject, 4)[2] > centre_mm(subject, 5)[2] + 3
    assert abs(centre_mm(subject, 5)[0]) < 6


@pytest.mark.thorough
def test_written_set_reads_back(tmp_path):
    dataset = write_phantom(tmp_path / "set", 4, seed=9, spacing=(6, 6, 6))
    assert dataset.labels == BRAIN_LABELS
    assert [case.name for case in dataset.labelled] == [f"phantom_{i:03d}" for i in range(4)]
    orientations = set()
    for case in dataset.cases:
        scan, label_header = read_header(case.images[0]), read_header(case.label)
        assert same_grid(scan, label_header)
        np.testing.assert_allclose(scan.qform, scan.sform, atol=1e-4)
        assert (scan.dtype, label_header.dtype) == (np.int16, np.uint8)
        assert scan.obliquity > 0
        orientations.add(scan.orientation)
        image, label = read_image(case.images), read_label_map(case.label)
        assert image.shape == (1, *label.shape)
        assert BRAIN_LABELS.unknown(label) == []
        assert image[0].numpy()[label == 3].mean() > image[0].numpy()[label == 2].mean()
    assert orientations == {"RAS", "LPS", "LAS", "PSR"}
    table = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert table["labels"]["4"] == "lateral ventricles"
    assert table["numTraining"] == len(table["training"]) == 4
    for entry in table["training"]:
        assert (tmp_path / "set" / entry["image"]).is_file()
        assert (tmp_path / "set" / entry["label"]).is_file()


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.thorough
def test_same_seed_same_bytes(tmp_path):
    spacing = (8, 8, 8)
    for name, subjects, seed in (("a", 2, 1), ("b", 2, 1), ("c", 3, 1), ("d", 2, 2)):
        write_phantom(tmp_path / name, subjects, seed, spacing=spacing)
    a, b, c, d = (digests(tmp_path / name) for name in "abcd")
    assert a == b
    assert {k: c[k] for k in a if k != "dataset.json"} == {k: v for k, v in a.items() if k != "dataset.json"}
    assert not set(a.values()) & set(d.values())


def test_an_empty_folder_is_filled_and_a_full_one_is_not_touched(tmp_path):
    (tmp_path / "set").mkdir()
    write_phantom(tmp_path / "set", 1, spacing=(8, 8, 8))
    before = digests(tmp_path / "set")
    with pytest.raises(OptionError, match="not empty"):
        write_phantom(tmp_path / "set", 1, seed=1, spacing=(8, 8, 8))
    assert digests(tmp_path / "set") == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="found a file"):
        write_phantom(tmp_path / "file", 1, spacing=(8, 8, 8))
    assert (tmp_path / "file").read_text() == "x"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    real, calls = phantom.make_subject, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(phantom, "make_subject", failing)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "set", 2, spacing=(8, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: write_phantom(f, 0), "at least 1, found 0"),
        (lambda f: write_phantom(f, 1, seed=-1), "seed"),
        (lambda f: write_phantom(f, 1, spacing=(0, 1, 1)), "three sizes above 0"),
        (lambda f: make_subject(0, spacing=(2, 2)), "three sizes"),
        (lambda f: make_subject(0, spacing=(20, 2, 2)), "up to 10 mm"),
        (lambda f: make_subject(0, spacing=(float("nan"), 2, 2)), "above 0"),
        (lambda f: make_subject(-1), "seed"),
        (lambda f: make_subject(0, orientation="RAR"), "RAR"),
        (lambda f: Variation(noise=-0.1), "noise"),
        (lambda f: Variation(bias=float("inf")), "bias"),
        (lambda f: Variation(scaling=0.9), "at most 0.5"),
        (lambda f: Variation(deformation_grid_mm=0), "5 mm or more"),
    ],
)
def test_impossible_options_are_refused_and_leave_nothing(tmp_path, call, words):
    with pytest.raises(OptionError, match=words):
        call(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_structures_of_the_template_are_where_anatomy_has_them():
    """Extents from any atlas: lateral ventricles 10 to 30 ml here, symmetric; nuclei beside the midline."""
    template = load_brain_template()
    tissue = template.tissues.argmax(axis=0)
    for structure, own_tissue, least, most in ((0, 0, 12_000, 25_000), (1, 1, 22_000, 45_000)):
        mask = (template.structures[structure] > 0.5) & (tissue == own_tissue) & (template.t1 > 0)
        assert least < mask.sum() < most
        x = np.argwhere(mask)[:, 0] + template.affine[0, 3]
        assert abs(x.mean()) < 0.5
        assert 10 < np.abs(x).mean() < 20
    assert np.all(np.diff(template.tissue_intensities) > 0.1)
