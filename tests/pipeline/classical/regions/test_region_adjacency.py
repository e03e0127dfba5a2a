"""The graph of regions, against scikit-image's and against counting face by face."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.regions.region_adjacency import RegionAdjacency, merging_costs
from atlaseg.pipeline.errors import GeometryError, OptionError


def numbered(values: np.ndarray) -> np.ndarray:
    """Map with the same regions numbered without gaps, 0 kept."""
    _, inverse = np.unique(np.append(0, values.ravel()), return_inverse=True)
    return inverse[1:].reshape(values.shape)


def counted_areas(regions: np.ndarray, spacing: tuple[float, float, float]) -> dict[tuple[int, int], float]:
    """Common area of each pair, one voxel after another."""
    areas: dict[tuple[int, int], float] = {}
    face = [spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]]
    for place in itertools.product(*map(range, regions.shape)):
        for axis in range(3):
            beside = list(place)
            beside[axis] += 1
            if beside[axis] == regions.shape[axis]:
                continue
            a, b = sorted((int(regions[place]), int(regions[tuple(beside)])))
            if a and a != b:
                areas[a - 1, b - 1] = areas.get((a - 1, b - 1), 0) + face[axis]
    return areas


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(1, 8), st.integers(0, 1000))
def test_nodes_and_edges_are_those_that_counting_finds(
    shape: tuple[int, int, int], highest: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    regions = numbered(rng.integers(0, highest + 1, shape))
    voxels = rng.normal(size=(2, *shape)).astype(np.float32)
    spacing = (0.7, 1.1, 5.0)
    graph = RegionAdjacency.of(regions, voxels, spacing)
    assert len(graph) == regions.max()
    for n in range(len(graph)):
        inside = voxels[:, regions == n + 1].astype(np.float64)
        assert graph.sizes[n] == inside.shape[1]
        np.testing.assert_allclose(graph.means[n], inside.mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(graph.deviations[n], inside.std(axis=1), atol=1e-7)
    expected = counted_areas(regions, spacing)
    assert [tuple(e) for e in graph.edges.tolist()] == sorted(expected)
    np.testing.assert_allclose(graph.areas, [expected[tuple(e)] for e in graph.edges.tolist()])


def test_edges_are_scikit_images() -> None:
    from skimage.graph import RAG

    rng = np.random.default_rng(3)
    regions = np.arange(1, 61).reshape(3, 4, 5).repeat(3, 0).repeat(2, 1).repeat(4, 2)
    graph = RegionAdjacency.of(regions, rng.normal(size=regions.shape), (1, 1, 1))
    theirs = {tuple(sorted((a - 1, b - 1))) for a, b in RAG(regions, connectivity=1).edges}
    assert {tuple(e) for e in graph.edges.tolist()} == theirs


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_contraction_gives_the_graph_of_the_merged_map(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    regions = numbered(rng.integers(0, 12, (5, 6, 4)))
    voxels = rng.normal(size=(2, 5, 6, 4))
    graph = RegionAdjacency.of(regions, voxels, (1, 2, 3))
    step = numbered(1 + rng.integers(0, groups, len(graph))) - 1
    merged = np.append(0, step + 1)[regions]
    ours, again = graph.contracted(step), RegionAdjacency.of(merged, voxels, (1, 2, 3))
    assert ours.edges.tolist() == again.edges.tolist()
    for name in ("sizes", "sums", "squares", "areas"):
        np.testing.assert_allclose(getattr(ours, name), getattr(again, name), atol=1e-9)


def test_ward_is_the_rise_of_the_squared_error() -> None:
    rng = np.random.default_rng(0)
    regions = np.repeat([1, 2, 3], [3, 5, 2])[:, None, None] * np.ones((1, 2, 2), int)
    voxels = rng.normal(size=(2, 10, 2, 2))

    def error(values: list[int]) -> float:
        inside = voxels[:, np.isin(regions, values)]
        return float(((inside - inside.mean(axis=1, keepdims=True)) ** 2).sum())

    graph = RegionAdjacency.of(regions, voxels, (1, 0.5, 2))
    ward = merging_costs(graph, "ward")
    for (i, j), cost in zip(graph.edges.tolist(), ward, strict=True):
        assert cost == pytest.approx(error([i + 1, j + 1]) - error([i + 1]) - error([j + 1]))
    np.testing.assert_allclose(merging_costs(graph, "mumford-shah"), ward / 4)
    distances = np.linalg.norm(graph.means[graph.edges[:, 0]] - graph.means[graph.edges[:, 1]], axis=1)
    np.testing.assert_allclose(merging_costs(graph, "mean"), distances)


def test_one_region_has_no_edges_and_no_region_makes_an_empty_graph() -> None:
    one = RegionAdjacency.of(np.ones((2, 2, 2), int), np.zeros((2, 2, 2)), (1, 1, 1))
    assert (len(one), one.edges.shape, one.areas.shape) == (1, (0, 2), (0,))
    none = RegionAdjacency.of(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2)), (1, 1, 1))
    assert (len(none), none.edges.shape, none.means.shape) == (0, (0, 2), (0, 1))


def test_bad_maps_are_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match="no region 2 of 3"):
        RegionAdjacency.of(np.array([[[1, 3]]]), np.zeros((1, 1, 2)), (1, 1, 1))
    with pytest.raises(OptionError, match="holds -1"):
        RegionAdjacency.of(np.array([[[1, -1]]]), np.zeros((1, 1, 2)), (1, 1, 1))
    with pytest.raises(GeometryError, match="one grid"):
        RegionAdjacency.of(np.array([[[1, 1]]]), np.zeros((1, 1, 3)), (1, 1, 1))
    graph = RegionAdjacency.of(np.array([[[1, 2]]]), np.zeros((1, 1, 2)), (1, 1, 1))
    with pytest.raises(OptionError, match="choose one of mean, ward"):
        merging_costs(graph, "median")  # type: ignore[arg-type]
