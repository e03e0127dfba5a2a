from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from atlaseg.pipeline.case import Case, Dataset, LabelTable, value_counts
from atlaseg.pipeline.errors import DatasetError, LabelError

VALUES = st.sets(st.integers(1, 2**31 - 1), max_size=30)


@given(VALUES, st.randoms(use_true_random=False))
def test_indices_and_values_are_inverse(values, random):
    table = LabelTable.from_values(values)
    label_map = np.array([random.choice(table.values) for _ in range(60)]).reshape(3, 4, 5)
    indices = table.to_indices(label_map)
    assert indices.shape == label_map.shape
    assert indices.max() < len(table)
    np.testing.assert_array_equal(table.to_values(indices), label_map)


@given(VALUES)
def test_type_is_the_smallest_that_fits(values):
    table = LabelTable.from_values(values)
    assert table.dtype.itemsize == np.min_scalar_type(table.values[-1]).itemsize
    assert table.to_values(np.arange(len(table))).dtype == table.dtype


@given(VALUES, st.integers(0, 2**31))
def test_unknown_values_are_never_taken_for_known_ones(values, other):
    table = LabelTable.from_values(values)
    label_map = np.array([0, other])
    if other in table.values:
        assert table.unknown(label_map) == []
    else:
        assert table.unknown(label_map) == [other]
        with pytest.raises(LabelError, match=f"unknown label values .{other}"):
            table.to_indices(label_map)


@given(arrays.arrays(np.int64, (4, 5), elements=st.integers(-3, 70_000)))
def test_value_counts_agree_with_numpy(label_map):
    values, counts = np.unique(label_map, return_counts=True)
    assert list(value_counts(label_map).items()) == list(zip(values.tolist(), counts.tolist(), strict=True))


def test_value_counts_of_nothing():
    assert value_counts(np.zeros((0, 3), int)) == {}


def test_names_in_the_order_of_values_with_the_background_first():
    table = LabelTable.from_names({"lesion": 255, "liver": 4})
    assert table.names == ("background", "liver", "lesion")
    assert table.values == (0, 4, 255)
    assert table.structures == {4: "liver", 255: "lesion"}
    assert LabelTable.from_names({"air": 0, "liver": 1}).names == ("air", "liver")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((0, 1), ("background",)),
        ((1, 2), ("liver", "lesion")),
        ((), ()),
        ((0, 2, 1), ("background", "liver", "lesion")),
        ((0, 1, 1), ("background", "liver", "lesion")),
        ((0, 1, 2), ("background", "liver", "liver")),
    ],
)
def test_tables_that_make_no_sense(values, names):
    with pytest.raises(LabelError):
        LabelTable(values, names)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b"])
def test_case_names_can_be_file_names(name: str):
    with pytest.raises(DatasetError, match="not usable as a file name"):
        Case(name, (Path("a.nii"),))


def test_a_case_has_an_image():
    with pytest.raises(DatasetError, match="has no image"):
        Case("a", ())


def test_dataset_parts():
    a, b = Case("a", (Path("a.nii"),), Path("l.nii")), Case("b", (Path("b.nii"),))
    dataset = Dataset("toy", (a, b), LabelTable.from_values([1]))
    assert dataset.labelled == (a,)
    assert dataset.unlabelled == (b,)
    assert dataset.subset(["b"]).cases == (b,)
    with pytest.raises(DatasetError, match="toy has no case c"):
        dataset.subset(["a", "c"])
    with pytest.raises(DatasetError, match="found twice: a"):
        Dataset("toy", (a, a), dataset.labels)
