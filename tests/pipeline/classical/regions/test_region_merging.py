"""The order of merging, against a brute-force reference that looks at every pair each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.regions.region_adjacency import Criterion, RegionAdjacency, pair_costs
from atlaseg.pipeline.classical.regions.region_merging import (
    Hierarchy,
    merge,
    merge_greedily,
    merge_in_rounds,
    number_of_regions,
)
from atlaseg.pipeline.errors import OptionError


def graph_of(
    shape: tuple[int, int, int], seed: int, levels: int | None = None, channels: int = 1
) -> RegionAdjacency:
    """Graph whose regions are the voxels of noise, which has ties where it has few levels."""
    rng = np.random.default_rng(seed)
    size = (channels, *shape)
    voxels = rng.normal(size=size) if levels is None else rng.integers(0, levels, size)
    return RegionAdjacency.of(np.arange(1, np.prod(shape) + 1).reshape(shape), voxels, (0.5, 1, 3))


def brute_force(graph: RegionAdjacency, criterion: Criterion) -> Hierarchy:
    """Cheapest pair of all edges, by looking at all of them, again and again."""
    sizes, sums = dict(enumerate(graph.sizes)), dict(enumerate(graph.sums))
    areas = {(int(i), int(j)): a for (i, j), a in zip(graph.edges, graph.areas, strict=True)}
    pairs, costs = [], []
    while areas:
        cost, i, j = min(
            (float(pair_costs(sizes[i], sums[i], sizes[j], sums[j], a, criterion)), i, j)
            for (i, j), a in areas.items()
        )
        new = len(graph) + len(pairs)
        sizes[new], sums[new] = sizes.pop(i) + sizes.pop(j), sums.pop(i) + sums.pop(j)
        joined: dict[tuple[int, int], float] = {}
        for (a, b), area in areas.items():
            ends = sorted(new if node in (i, j) else node for node in (a, b))
            if ends[0] != ends[1]:
                joined[ends[0], ends[1]] = joined.get((ends[0], ends[1]), 0) + area
        areas = joined
        pairs.append((i, j))
        costs.append(cost)
    return Hierarchy(len(graph), np.array(pairs).reshape(-1, 2), np.array(costs))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.integers(0, 1000),
    st.sampled_from([None, 2, 5]),
    st.sampled_from(["mean", "ward", "mumford-shah"]),
)
def test_order_is_that_of_brute_force(
    shape: tuple[int, int, int], seed: int, levels: int | None, criterion: Criterion
) -> None:
    graph = graph_of(shape, seed, levels, channels=2)
    ours, slow = merge_greedily(graph, criterion=criterion), brute_force(graph, criterion)
    assert ours.pairs.tolist() == slow.pairs.tolist()
    np.testing.assert_allclose(ours.costs, slow.costs, atol=1e-12)


def test_first_ward_merging_and_total_cost_are_scikit_learns() -> None:
    from sklearn.cluster import ward_tree
    from sklearn.feature_extraction.image import grid_to_graph

    rng = np.random.default_rng(0)
    voxels = rng.normal(size=(6, 5, 4))
    graph = RegionAdjacency.of(np.arange(1, 121).reshape(6, 5, 4), voxels, (1, 1, 1))
    children, *_, distances = ward_tree(
        voxels.reshape(-1, 1), connectivity=grid_to_graph(6, 5, 4), return_distance=True
    )
    ours = merge_greedily(graph)
    # theirs is sqrt(2 rise)
    np.testing.assert_allclose(np.sqrt(2 * ours.costs), distances, rtol=1e-6, atol=1e-9)
    assert [sorted(pair) for pair in children.tolist()] == [sorted(pair) for pair in ours.pairs.tolist()]


def test_stopping_early_gives_the_start_of_the_same_hierarchy() -> None:
    graph = graph_of((5, 5, 5), 0)
    whole, part = merge_greedily(graph), merge_greedily(graph, regions=20)
    assert part.pairs.tolist() == whole.pairs[:105].tolist()
    limit = float(whole.costs[60])
    cheap = merge_greedily(graph, limit=limit)
    assert cheap.costs.max() <= limit
    assert cheap.cut().tolist() == whole.cut(limit=limit).tolist()
    assert np.unique(whole.cut(regions=7)).tolist() == list(range(7))


def test_parts_that_do_not_touch_are_never_merged() -> None:
    regions = np.array([1, 2, 0, 3, 4]).reshape(5, 1, 1)
    graph = RegionAdjacency.of(regions, np.zeros((5, 1, 1)), (1, 1, 1))
    assert merge(graph).tolist() == [0, 0, 1, 1]
    assert merge(graph, exact=1).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("criterion", ["mean", "ward", "mumford-shah"])
def test_rounds_stop_at_the_number_asked_for_and_keep_regions_connected(
    levels: int | None, criterion: Criterion
) -> None:
    from scipy.ndimage import label

    graph = graph_of((8, 9, 7), 1, levels)
    groups = merge_in_rounds(graph, criterion=criterion, regions=23)
    assert np.unique(groups).tolist() == list(range(23))
    for n in range(23):
        assert label((groups == n).reshape(8, 9, 7))[1] == 1


def test_rounds_and_queue_find_the_same_blocks_in_noise() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(8).reshape(2, 2, 2).repeat(6, 0).repeat(6, 1).repeat(6, 2)
    voxels = truth + rng.normal(0, 0.1, truth.shape)
    graph = RegionAdjacency.of(np.arange(1, truth.size + 1).reshape(truth.shape), voxels, (1, 1, 1))
    # every face of each octant is met first in this order, so groups are numbered as the truth is
    assert merge(graph, regions=8).tolist() == truth.ravel().tolist()
    assert merge(graph, regions=8, exact=100).tolist() == truth.ravel().tolist()
    assert merge_in_rounds(graph, regions=8).tolist() == truth.ravel().tolist()


def test_rounds_never_merge_above_the_limit() -> None:
    voxels = np.array([0.0, 0.1, 5.0, 5.1, 9.0]).reshape(5, 1, 1)
    graph = RegionAdjacency.of(np.arange(1, 6).reshape(5, 1, 1), voxels, (1, 1, 1))
    assert merge_in_rounds(graph, criterion="mean", limit=1.0).tolist() == [0, 0, 1, 1, 2]


def test_a_ramp_whose_steps_rise_takes_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one pair of a convex ramp is mutual; without the other rule this would take one round for each region."""
    n = 2000
    graph = RegionAdjacency.of(np.arange(1, n + 1).reshape(n, 1), np.arange(n).reshape(n, 1) ** 2.0, (1, 1))
    rounds = 0
    contracted = RegionAdjacency.contracted

    def counting(self: RegionAdjacency, groups: np.ndarray) -> RegionAdjacency:
        nonlocal rounds
        rounds += 1
        return contracted(self, groups)

    monkeypatch.setattr(RegionAdjacency, "contracted", counting)
    assert merge_in_rounds(graph, criterion="mean").max() == 0
    assert rounds < 60


def test_fewer_than_one_region_is_refused() -> None:
    with pytest.raises(OptionError, match="ask for 1 or more"):
        merge(graph_of((2, 2, 2), 0), regions=0)
    with pytest.raises(OptionError, match=r"regions of 0.5 voxels"):
        number_of_regions(np.ones((2, 2, 2), bool), 0.5)
