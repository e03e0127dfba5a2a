"""Folds: compared with scikit-learn, and their invariants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlaseg.pipeline.datasets.splits import split_folds
from atlaseg.pipeline.errors import OptionError


@given(
    st.sets(st.text("abc012_", min_size=1, max_size=6), min_size=2, max_size=40),
    st.integers(2, 10),
    st.integers(0, 2**32 - 1),
)
def test_every_case_is_validated_once_and_sizes_differ_by_at_most_one(names, folds, seed):
    folds = min(folds, len(names))
    result = split_folds(list(names), folds, seed)
    validated = [name for _, validation in result for name in validation]
    sizes = [len(validation) for _, validation in result]
    assert len(result) == folds
    assert sorted(validated) == sorted(names)
    assert max(sizes) - min(sizes) <= 1
    for train, validation in result:
        assert set(train) | set(validation) == names
        assert not set(train) & set(validation)
        assert train
        assert list(validation) == sorted(validation)


def test_is_the_shuffled_kfold_of_scikit_learn():
    from sklearn.model_selection import KFold

    names = [f"case_{i:03d}" for i in range(23)]
    expected = KFold(5, shuffle=True, random_state=7).split(names)
    for (train, validation), (train_index, validation_index) in zip(
        split_folds(names, 5, 7), expected, strict=True
    ):
        assert train == tuple(names[i] for i in train_index)
        assert validation == tuple(names[i] for i in validation_index)


def test_depends_on_the_seed_and_not_on_the_order():
    names = [f"case_{i}" for i in range(20)]
    assert split_folds(names, 4, 3) == split_folds(names[::-1], 4, 3)
    assert split_folds(names, 4, 3) != split_folds(names, 4, 4)


@pytest.mark.parametrize(
    ("names", "folds", "seed", "words"),
    [
        (["a", "b"], 1, 0, "at least 2, found 1"),
        (["a", "b"], 3, 0, r"at most one per case \(2\), found 3"),
        ([], 2, 0, r"at most one per case \(0\)"),
        (["a", "b", "a"], 2, 0, "found twice: a$"),
        (["a", "b"], 2, -1, "seed"),
        (["a", "b"], 2, 2**32, "seed"),
    ],
)
def test_impossible_folds_are_refused(names, folds, seed, words):
    with pytest.raises(OptionError, match=words):
        split_folds(names, folds, seed)
