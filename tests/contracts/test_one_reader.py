"""Every part of the software sees the array and the affine that plain nibabel and numpy say, or all refuse alike."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.errors import AtlasegError, HeaderWarning
from tests.contracts.one_reader import CONSUMERS, Consumer
from tests.contracts.stored_case import Store, Variation, affine_of, plainly

OBLIQUE = affine_of("LPS", (0.7, 0.8, 3.0), (11, -7, 17))
SHEARED = affine_of() @ np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
#: As close to one axis as to another: rounding decides.
DIAGONAL = affine_of(angles=(0, 0, 45))


def _moved(by: float, bent: float = 0.0) -> np.ndarray:
    result = affine_of()
    result[:3, 3] += by
    result[0, 1] += bent
    return result


VARIATIONS = [
    Variation("plain"),
    *(Variation(axes, Store(affine_of(axes, (1.0, 1.5, 2.0)))) for axes in ("LPS", "LAS", "PIR", "SLA", "IPL")),
    Variation("oblique", Store(OBLIQUE)),
    Variation("45 degrees", Store(DIAGONAL)),
    Variation("sform alone", Store(OBLIQUE, codes=(0, 1))),
    Variation("sform alone, code 4", Store(OBLIQUE, codes=(0, 4))),
    Variation("qform alone", Store(OBLIQUE, codes=(1, 0))),
    Variation("another sform without a code", Store(OBLIQUE, qform=affine_of("RAS"), codes=(1, 0))),
    Variation("another qform without a code", Store(affine_of("LPS"), qform=affine_of(), codes=(0, 2))),
    Variation("no code at all", Store(OBLIQUE, codes=(0, 0)), warning="neither sform nor qform is set"),
    Variation("qform close to sform", Store(qform=_moved(0.2)), warning="sform and qform disagree by up to 0.346"),
    Variation("qform against sform", Store(qform=_moved(3)), refusal="sform and qform disagree by up to 5.2 mm"),
    Variation("qform turned", Store(affine_of(), qform=affine_of("LPS")), refusal="sform and qform disagree by up to"),
    Variation("shear", Store(SHEARED, qform=affine_of(), codes=(0, 1)), refusal="the axes are not at right angles"),
    Variation(
        "rounded pixdim",
        Store(affine_of("LPS", (0.9375, 0.9375, 1.5)), codes=(0, 1), pixdim=(0.94, 0.94, 1.5)),
        warning="pixdim says voxels of 0.94 x 0.94 x 1.5 mm, the sform 0.9375 x 0.9375 x 1.5 mm",
    ),
    Variation(
        "another pixdim",
        Store(affine_of("LPS", (0.5, 0.5, 1.5)), codes=(0, 1), pixdim=(1, 1, 1)),
        refusal="pixdim says voxels of 1 x 1 x 1 mm, the sform 0.5 x 0.5 x 1.5 mm",
    ),
    Variation(
        "no pixdim", Store(affine_of(), codes=(0, 1), pixdim=(0, 0, 0)), refusal="pixdim says voxels of 0 x 0 x 0 mm"
    ),
    Variation("negative pixdim", Store(affine_of("LPS"), codes=(0, 1), pixdim=(-1, -1, 1))),
    Variation(
        "singular sform", Store(np.diag([1.0, 1, 0, 1]), qform=affine_of(), codes=(0, 1)), refusal="not invertible"
    ),
    Variation(
        "sform that is not a number",
        Store(np.full((4, 4), np.nan), qform=affine_of(), codes=(0, 1)),
        refusal="not invertible",
    ),
    Variation("unknown unit", Store(affine_of("RAS", (1, 1, 2)), unit="unknown")),
    Variation("microns", Store(affine_of("LPS", (25, 25, 50)), unit="micron")),
    Variation("microns, sform alone", Store(affine_of("LPS", (25, 25, 50)), unit="micron", codes=(0, 1))),
    Variation("metres", Store(affine_of("RAS", (0.001, 0.001, 0.002)) * [[1], [1], [1], [1]], unit="meter")),
    Variation(
        "scan in microns, label in millimetres",
        Store(np.diag([25.0, 25, 25, 1]), unit="micron"),
        Store(np.diag([0.025, 0.025, 0.025, 1]), dtype=np.uint8),
    ),
    *(
        Variation(f"stored as {dtype}", Store(dtype=np.dtype(dtype)), Store(dtype=np.dtype(dtype)))
        for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64", "float32", "float64")
        if dtype != "int8"
    ),
    Variation("big endian", Store(dtype=np.int16, endian=">")),
    Variation("NIfTI-2", Store(OBLIQUE, kind=nib.Nifti2Image)),
    Variation("uncompressed", Store(suffix=".nii")),
    Variation("capital letters", Store(suffix=".NII.GZ")),
    Variation("slope and intercept", Store(dtype=np.int16, slope=(0.5, -7))),
    Variation("slope that is not a number", Store(raw_slope=(np.nan, 0)), refusal="scl_slope is nan"),
    Variation("infinite slope", Store(raw_slope=(np.inf, 0)), refusal="scl_slope is inf"),
    Variation("intercept that is not a number", Store(raw_slope=(1, np.nan)), refusal="invalid intercept nan"),
    Variation("slope of 0 means none", Store(raw_slope=(0, 5))),
    Variation("labels of 0.99998", label=Store(dtype=np.float32), wrong=-2e-5),
    Variation("labels of 1.0004", label=Store(dtype=np.float64), wrong=4e-4),
    Variation("labels in steps of 1/41", label=Store(dtype=np.int16, slope=(1 / 41, 0)), values=(1, 7)),
    Variation("labels in steps of 0.011", label=Store(dtype=np.uint16, slope=(0.011, 0)), values=(3, 50)),
    Variation(
        "labels between whole numbers",
        label=Store(dtype=np.float32),
        wrong=0.3,
        label_refusal="label values must be whole numbers, found",
    ),
    Variation("labels above 2^24", label=Store(dtype=np.uint32), values=(312782550, 312782554)),
    Variation("labels above 2^31", label=Store(dtype=np.int64), values=(4294967296, 4294967297)),
    Variation("two dimensions", axes="2d"),
    Variation("one slice", axes="slice"),
    Variation("a fourth axis of one", axes="4d"),
    Variation("channels last", axes="channels"),
    Variation("channels on the fifth axis", axes="5d"),
    Variation("channels in two files", second=Store()),
    Variation("channels 0.002 mm apart", second=Store(_moved(0.002, bent=2e-5))),
    Variation(
        "channels 2 mm apart", second=Store(_moved(2)), refusal="voxels up to"
    ),
    Variation(
        "label within rounding of 45 degrees",
        Store(affine_of(angles=(0, 0, 45 + 5e-5))),
        Store(affine_of(angles=(0, 0, 45 - 5e-5)), dtype=np.uint8),
    ),
    Variation("voxels that are not numbers", voxel=np.nan, refusal="1 of 504 voxels are NaN or infinite"),
    Variation("infinite voxels", voxel=np.inf, refusal="1 of 504 voxels are NaN or infinite"),
]  # fmt: skip


def check_one(variation: Variation, consumer: Consumer, folder: Path) -> None:
    images, label = variation.write(folder / "data")
    out = folder / "out"
    out.mkdir(parents=True)
    refusals = {"image": variation.refusal, "label": variation.label_refusal}
    if variation.label is None and variation.refusal and variation.voxel is None and variation.second is None:
        refusals["label"] = variation.refusal  # the header of the label map has the same fault
    if variation.second is not None and not consumer.together:
        refusals["image"] = None  # the first channel by itself is in order
    expected_refusals = [refusals[kind] for kind in consumer.reads if refusals[kind]]
    if expected_refusals:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with pytest.raises(AtlasegError) as caught:
                consumer.look(variation, images, label, out)
        assert expected_refusals[0] in str(caught.value)
        assert any(str(path) in str(caught.value) for path in (*images, label)), "the file must be named"
        return
    with warnings.catch_warnings():
        # also that of a run's own scripts, which no process of pytest-xdist but this one can import
        warnings.simplefilter("ignore", UserWarning)
        expected, seen = plainly(images, label), consumer.look(variation, images, label, out)
    for name in ("image", "affine", "label"):
        found, wanted = getattr(seen, name), getattr(expected, name)
        if found is not None and name == "affine":
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max(), err_msg=name)
        elif found is not None:
            np.testing.assert_array_equal(found, wanted.reshape(found.shape), err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda consumer: consumer.name)
@pytest.mark.parametrize("variation", VARIATIONS, ids=lambda variation: variation.name)
def test_all_see_the_same(variation: Variation, consumer: Consumer, tmp_path: Path) -> None:
    check_one(variation, consumer, tmp_path)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(VARIATIONS) >= 40
    assert len({variation.name for variation in VARIATIONS}) == len(VARIATIONS)


@pytest.mark.parametrize("name", ["no code at all", "rounded pixdim", "qform close to sform"])
def test_assumptions_are_printed(name: str, tmp_path: Path) -> None:
    from atlaseg.pipeline.io.volume import read_image

    (variation,) = (v for v in VARIATIONS if v.name == name)
    images, _ = variation.write(tmp_path)
    with pytest.warns(HeaderWarning, match=str(images[0])) as caught:
        read_image(images)
    assert variation.warning
    assert variation.warning in str(caught[0].message)


@st.composite
def stores(draw: Any) -> tuple[Store, Store, str]:
    """A scan and its label map as any program might store them."""
    axes = draw(st.sampled_from(["RAS", "LPS", "LAS", "RSA", "PIR", "IAL", "SPL"]))
    unit = draw(st.sampled_from(["unknown", "mm", "micron", "meter"]))
    size = {"micron": 40.0, "meter": 0.001}.get(unit, 1.0)
    spacing = [size * draw(st.floats(0.3, 5.0)) for _ in range(3)]
    # turned by less than 45 degrees, so that rounding of the header does not decide about axes
    angles = [draw(st.floats(-20, 20)) for _ in range(3)]
    dtype = draw(st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]))
    slope = draw(st.sampled_from([None, (0.5, -7.0), (2.0, 0.0)])) if dtype == "int16" else None
    store = Store(
        affine_of(axes, spacing, angles),
        codes=draw(st.sampled_from([(1, 1), (0, 1), (1, 0), (2, 4), (0, 0)])),
        unit=unit,
        dtype=np.dtype(dtype),
        slope=slope,
        kind=draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image])),
        endian=draw(st.sampled_from(["<", ">"])),
        suffix=draw(st.sampled_from([".nii", ".nii.gz"])),
    )
    label = replace(store, dtype=np.dtype(draw(st.sampled_from(["uint8", "int32", "float32"]))), slope=None)
    return store, label, draw(st.sampled_from(["3d", "2d", "slice", "4d", "5d", "channels"]))


@pytest.mark.thorough
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=stores())
def test_any_header_is_seen_alike(
    made: tuple[Store, Store, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    image, label, axes = made
    variation = Variation("any", image, label, axes=axes)
    for consumer in CONSUMERS:
        check_one(variation, consumer, tmp_path_factory.mktemp("any"))
