"""Joint label fusion beside a plain loop over the paper's formulas, beside ANTs, and where the answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.joint import JointFusion
from atlaseg.atlases.fusion.joint_weights import solve_weights
from atlaseg.atlases.fusion.patches import box_sums, dilated
from atlaseg.atlases.fusion.voting import disagreement
from atlaseg.pipeline.errors import OptionError


def made(shape=(7, 6, 5), atlases=4, classes=3, channels=1, noise=0.3, seed=0, inside=False):
    """Smooth structures, shifted differently in each atlas, with the intensities that go with them."""
    from scipy.ndimage import gaussian_filter, shift

    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal(shape), 1.5)
    field /= field.std()
    edges = np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])
    images, labels = [], []
    for _ in range(atlases + 1):
        moved = shift(field, rng.uniform(-1, 1, 3), order=1, mode="nearest")
        labels.append(np.digitize(moved, edges))
        images.append(moved + noise * rng.standard_normal((channels, *shape)))
    seen = rng.random((atlases, *shape)) > 0.1 if inside else None
    candidates = Candidates(
        np.stack(labels[1:]).astype(np.uint8),
        classes,
        np.stack(images[1:]).astype(np.float32),
        images[0].astype(np.float32),
        seen,
    )
    return candidates, labels[0]


def plain(candidates, patch=1, search=0, vote=None, alpha=0.1, beta=2.0, metric="squares"):
    """The paper voxel by voxel, double precision; probabilities ``(K, *spatial)``."""
    vote = patch if vote is None else vote
    shape, count = candidates.spatial_shape, len(candidates)
    seen = np.ones(candidates.labels.shape, bool) if candidates.inside is None else candidates.inside
    target = candidates.target.astype(float)
    unit = target.std(axis=(1, 2, 3), keepdims=True)
    middle = target.mean(axis=(1, 2, 3), keepdims=True)
    target = (target - middle) / unit
    reach = patch + search
    around = [(0, 0)] + [(reach, reach)] * 3
    padded_target = np.pad(target, around, mode="edge")
    padded = []
    for image, visible in zip(candidates.images.astype(float), seen, strict=True):
        whole = np.pad((image - middle) / unit, around, mode="edge")
        padded.append(np.where(np.pad(visible, reach), whole, padded_target) if not seen.all() else whole)

    def cut(volume, at):
        low = np.array(at) + reach - patch
        x, y, z = (slice(a, a + 2 * patch + 1) for a in low)
        return volume[:, x, y, z].reshape(len(volume), -1)

    def normal(p):
        p = p - p.mean(axis=1, keepdims=True)
        return p / np.sqrt(np.maximum(p.var(axis=1, ddof=1, keepdims=True), 1e-6))

    def cost(a, t):
        if metric == "squares":
            return ((a - t) ** 2).sum()
        return -(normal(a) * normal(t)).sum()

    steps = sorted(itertools.product(range(-search, search + 1), repeat=3), key=lambda o: np.dot(o, o))
    votes = np.zeros((candidates.classes, *shape))
    for centre in np.ndindex(shape):
        wanted = cut(padded_target, centre)
        offsets, errors = [], []
        for atlas in range(count):
            options = []
            for step in steps:
                at = np.add(centre, step)
                if (at >= 0).all() and (at < shape).all() and seen[atlas][tuple(at)]:
                    options.append((cost(cut(padded[atlas], at), wanted), step))
            best = min(options, key=lambda o: o[0])[1] if options else (0, 0, 0)
            offsets.append(best)
            errors.append(np.abs(normal(cut(padded[atlas], np.add(centre, best))) - normal(wanted)).ravel())
        errors = np.array(errors)
        usable = np.flatnonzero(seen[(slice(None), *centre)])
        matrix = (errors @ errors.T / errors.shape[1])[np.ix_(usable, usable)] ** beta
        weights = np.zeros(count)
        solved = np.maximum(np.linalg.solve(matrix + alpha * np.eye(len(usable)), np.ones(len(usable))), 0)
        weights[usable] = solved / solved.sum() if len(usable) else 0
        for step in itertools.product(range(-vote, vote + 1), repeat=3):
            voxel = np.add(centre, step)
            if (voxel < 0).any() or (voxel >= shape).any():
                continue
            for atlas, offset in enumerate(offsets):
                place = voxel + offset
                if (place >= 0).all() and (place < shape).all() and seen[atlas][tuple(place)]:
                    label = candidates.labels[atlas][tuple(place)]
                    votes[(label, *voxel)] += weights[atlas]
    return votes / votes.sum(axis=0)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({"patch": 1}, {}),
        ({"patch": 2, "vote": 0, "alpha": 0.01, "beta": 1.0}, {}),
        ({"patch": 1, "search": 1, "vote": 2, "beta": 3.5}, {"atlases": 5}),
        ({"patch": 1, "search": 1, "metric": "correlation"}, {"channels": 2, "atlases": 2}),
        ({"patch": 1, "search": 1}, {"inside": True}),
    ],
)
def test_same_as_the_paper_in_a_plain_loop(options, data):
    candidates, _ = made(**data)
    rule = JointFusion(
        patch_radius=options["patch"],
        search_radius=options.get("search", 0),
        vote_radius=options.get("vote"),
        alpha=options.get("alpha", 0.1),
        beta=options.get("beta", 2.0),
        search_metric=options.get("metric", "squares"),
    )
    fused = rule.fuse(candidates)
    disputed, _ = disagreement(candidates)
    expected = plain(candidates, **options)
    assert disputed.mean() > 0.2
    np.testing.assert_allclose(fused.probabilities[:, disputed], expected[:, disputed], atol=2e-4)


@pytest.mark.parametrize("search", [0, 1])
def test_blocks_and_steps_do_not_change_the_result(monkeypatch, search):
    candidates, _ = made(shape=(23, 9, 8), noise=0.6)
    rule = JointFusion(patch_radius=(1, 2, 0), search_radius=search, vote_radius=(2, 1, 1))
    whole = rule.fuse(candidates)
    monkeypatch.setattr("atlaseg.atlases.fusion.joint._BLOCK_BYTES", 1)
    monkeypatch.setattr("atlaseg.atlases.fusion.joint._STEP_NUMBERS", 500)
    monkeypatch.setattr("atlaseg.atlases.fusion.patches._SLAB_VOXELS", 1)
    parts = rule.fuse(candidates)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-5)


def test_atlas_that_equals_the_scan_wins():
    candidates, truth = made(noise=0.05)
    images, labels = candidates.images.copy(), candidates.labels.copy()
    images[2], labels[2] = candidates.target, truth
    fused = JointFusion(alpha=1e-6, search_radius=0, vote_radius=0).fuse(
        Candidates(labels, 3, images, candidates.target)
    )
    np.testing.assert_array_equal(fused.labels, truth)


def test_copies_of_one_atlas_share_the_weight_of_one():
    rng = np.random.default_rng(0)
    errors = np.abs(rng.standard_normal((1, 3, 200)))
    once = np.moveaxis(errors @ errors.swapaxes(1, 2) / 200, 0, -1) ** 2
    twice = once[[0, 0, 1, 2]][:, [0, 0, 1, 2]]
    one = solve_weights(once.copy(), 1e-8, np.ones((3, 1), bool))
    two = solve_weights(twice.copy(), 1e-8, np.ones((4, 1), bool))
    np.testing.assert_allclose(two[0] + two[1], one[0], atol=1e-4)
    np.testing.assert_allclose(two[2:], one[1:], atol=1e-4)


def test_weights_are_those_of_lapack():
    rng = np.random.default_rng(1)
    errors = np.abs(rng.standard_normal((50, 7, 9)))
    matrix = (errors @ errors.swapaxes(1, 2) / 9) ** 2
    expected = np.linalg.solve(matrix + 0.1 * np.eye(7), np.ones((50, 7, 1)))[..., 0]
    expected = np.maximum(expected, 0)
    expected /= expected.sum(axis=1, keepdims=True)
    found = solve_weights(np.moveaxis(matrix, 0, -1).copy(), 0.1, np.ones((7, 50), bool))
    np.testing.assert_allclose(found.T, expected, atol=1e-6)


def test_order_of_the_atlases_does_not_matter():
    candidates, _ = made(atlases=5)
    order = [3, 0, 4, 2, 1]
    turned = Candidates(candidates.labels[order], 3, candidates.images[order], candidates.target)
    one, other = JointFusion().fuse(candidates), JointFusion().fuse(turned)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


def test_units_of_intensity_do_not_matter():
    candidates, _ = made()
    scaled = Candidates(
        candidates.labels, 3, candidates.images * 1000 + 5000, candidates.target * 1000 + 5000
    )
    one, other = JointFusion().fuse(candidates), JointFusion().fuse(scaled)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-2)


def test_search_corrects_a_shift():
    """Each atlas is off by a voxel along its own axis: with search the true labels come back."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    image = gaussian_filter(rng.standard_normal((20, 20, 20)), 1.2)
    truth = (image > 0).astype(np.uint8)
    shifts = [(1, 0), (1, 1), (1, 2), (-1, 0)]
    candidates = Candidates(
        np.stack([np.roll(truth, s, axis) for s, axis in shifts]),
        2,
        np.stack([np.roll(image, s, axis)[None] for s, axis in shifts]).astype(np.float32),
        image[None].astype(np.float32),
    )
    # where all are wrong together nothing can be mended
    mendable = disagreement(candidates)[0] & np.pad(np.ones((14, 14, 14), bool), 3)
    found = JointFusion(search_radius=1).fuse(candidates).labels
    without = JointFusion(search_radius=0).fuse(candidates).labels
    assert (found != truth)[mendable].sum() == 0
    assert (without != truth)[mendable].sum() > 100


def test_nothing_in_dispute_and_places_that_no_atlas_has_seen():
    candidates, truth = made()
    same = Candidates(np.stack([truth] * 4).astype(np.uint8), 3, candidates.images, candidates.target)
    np.testing.assert_array_equal(JointFusion().fuse(same).labels, truth)
    inside = np.ones(candidates.labels.shape, bool)
    inside[:, :3] = False
    inside[0, 3:5] = False
    images = candidates.images.copy()
    images[~inside[:, None]] = np.nan
    fused = JointFusion().fuse(Candidates(candidates.labels, 3, images, candidates.target, inside))
    assert (fused.labels[:3] == 0).all()
    np.testing.assert_allclose(fused.probabilities.sum(axis=0), 1, atol=1e-5)


def test_flat_images_vote_by_majority():
    candidates, _ = made(atlases=5, classes=2)
    flat = Candidates(
        candidates.labels, 2, np.ones_like(candidates.images), np.full_like(candidates.target, 3)
    )
    fused = JointFusion(vote_radius=0, search_radius=0).fuse(flat)
    np.testing.assert_array_equal(fused.labels, candidates.labels.sum(axis=0) > 2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"patch_radius": -1}, "patch_radius"),
        ({"search_radius": (1, 2)}, "search_radius"),
        ({"vote_radius": 1.5}, "vote_radius"),
        ({"alpha": 0.0}, "alpha"),
        ({"beta": float("nan")}, "beta"),
        ({"search_metric": "mi"}, "search_metric"),
    ],
)
def test_impossible_options(options, name):
    with pytest.raises(OptionError, match=name):
        JointFusion(**options)


def test_images_are_needed_and_must_be_finite():
    candidates, _ = made()
    with pytest.raises(OptionError, match="joint"):
        JointFusion().fuse(Candidates(candidates.labels, 3))
    broken = candidates.images.copy()
    broken[1, 0, 4, 4, 3] = np.nan
    with pytest.raises(OptionError, match="NaN"):
        JointFusion().fuse(Candidates(candidates.labels, 3, broken, candidates.target))
    target = candidates.target.copy()
    target[0, 0, 0, 0] = np.inf
    with pytest.raises(OptionError, match="NaN"):
        JointFusion().fuse(Candidates(candidates.labels, 3, candidates.images, target))


def test_box_sums_and_dilation():
    from scipy.ndimage import binary_dilation, convolve

    volume = np.random.default_rng(0).random((12, 11, 13)).astype(np.float32)
    for radius in [(0, 0, 0), (1, 2, 3), (4, 0, 5)]:
        box = np.ones([2 * r + 1 for r in radius])
        inner = tuple(slice(r, n - r) for r, n in zip(radius, volume.shape, strict=True))
        np.testing.assert_allclose(
            box_sums(volume, radius), convolve(volume.astype(float), box)[inner], rtol=1e-5
        )
        np.testing.assert_array_equal(
            dilated(volume > 0.99, radius), binary_dilation(volume > 0.99, np.ones_like(box))
        )


@pytest.mark.thorough
def test_labels_of_ants():
    """ANTs clips negative weights, votes whole patches and searches by squared differences, as we do by default."""
    ants = pytest.importorskip("ants")
    candidates, _ = made(shape=(24, 22, 20), classes=4, noise=0.2)
    disputed, _ = disagreement(candidates)

    def image(voxels):
        return ants.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))

    # it has no votes for label 0, so labels are counted from 1; its mask is where patches may have their middle
    theirs = ants.joint_label_fusion(
        image(candidates.target[0]),
        image(np.ones_like(disputed)),
        [image(atlas[0]) for atlas in candidates.images],
        label_list=[image(labels + 1) for labels in candidates.labels],
        beta=2,
        rho=0.1,
        rad=[1] * 3,
        r_search=1,
    )["segmentation"].numpy()
    ours = JointFusion(patch_radius=1, search_radius=1, alpha=0.1, beta=2).fuse(candidates).labels
    # at the border of the scan the two fill patches differently
    inner = disputed & np.pad(np.ones([n - 6 for n in disputed.shape], bool), 3)
    assert (theirs[inner] - 1 == ours[inner]).mean() > 0.98


@pytest.mark.parametrize(
    ("shape", "chosen", "radii"),
    [
        ((35, 90, 90), {}, ((1, 1, 1), (2, 2, 2))),
        ((64, 90, 90), {}, ((2, 2, 2), (1, 1, 1))),
        ((35, 90, 90), {"patch_radius": 3}, ((3, 3, 3), (2, 2, 2))),
        ((64, 90, 90), {"search_radius": (0, 1, 2)}, ((2, 2, 2), (0, 1, 2))),
    ],
)
def test_radii_follow_the_size_of_the_scan(shape, chosen, radii):
    assert JointFusion(**chosen).radii(shape) == radii
