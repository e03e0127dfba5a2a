"""Folds of cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlaseg.pipeline.errors import OptionError

__all__ = ["split_folds"]

Fold = tuple[tuple[str, ...], tuple[str, ...]]


def split_folds(names: Sequence[str], folds: int = 5, seed: int = 0) -> list[Fold]:
    """Split cases into folds at random: each case is validated exactly once, sizes differ by at most one.

    The result depends on the set of names, the number of folds and the seed, not on the order of the names.
    It is the split of scikit-learn's shuffled ``KFold`` over the sorted names; NumPy guarantees never to
    change the legacy generator behind it, so a paper can specify a split by its seed.

    Args:
        names: of the cases, all different.
        folds: from 2 to the number of cases.
        seed: of the dealing, from 0 to 2**32 - 1.

    Returns:
        For each fold the names to train on and the names to validate on, each sorted.

    Raises:
        OptionError: there are fewer than 2 folds or more folds than cases, a name is given twice, or the seed
            is out of range.

    >>> for train, validation in split_folds(["a", "b", "c", "d", "e"], folds=2):
    ...     print(train, validation)
    ('d', 'e') ('a', 'b', 'c')
    ('a', 'b', 'c') ('d', 'e')
    """
    if len(set(names)) != len(names):
        repeated = sorted({n for n in names if list(names).count(n) > 1})
        raise OptionError(f"folds need every case once, found twice: {', '.join(repeated)}")
    if folds < 2:
        raise OptionError(
            f"folds: expected at least 2, found {folds}; with fewer nothing is left to train on"
        )
    if folds > len(names):
        raise OptionError(f"folds: expected at most one per case ({len(names)}), found {folds}; use fewer")
    if not 0 <= seed < 2**32:
        raise OptionError(f"seed: expected 0 to {2**32 - 1}, found {seed}")
    ordered = np.array(sorted(names), dtype=object)
    parts = np.array_split(np.random.RandomState(seed).permutation(len(ordered)), folds)
    result: list[Fold] = []
    for chosen in parts:
        validated = np.isin(np.arange(len(ordered)), chosen)
        result.append((tuple(ordered[~validated]), tuple(ordered[validated])))
    return result
