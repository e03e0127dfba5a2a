"""Markov random field: minima against enumeration, energies that fall, and what smoothing is worth."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.fields.graph_cut import alpha_expansion, expand, minimum_cut, two_labels
from atlaseg.pipeline.classical.fields.potts import PottsEnergy, iterated_conditional_modes
from atlaseg.pipeline.classical.methods.gmm import gaussian_mixture
from atlaseg.pipeline.classical.methods.mrf import MrfOptions, smooth
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError


def _random_energy(rng, shape, classes, strength, contrast=0.0, masked=False):
    chances = rng.dirichlet(np.ones(classes), shape).transpose(3, 0, 1, 2)
    mask = rng.random(shape) < 0.8 if masked else np.ones(shape, bool)
    mask.flat[0] = True
    image = rng.normal(size=(2, *shape))
    spacing = rng.uniform(0.5, 2, 3)
    return PottsEnergy.of(chances, image, spacing=spacing, mask=mask, strength=strength, contrast=contrast)


def _smallest(energy):
    """Smallest energy of all labellings there are."""
    best = np.inf
    labels = np.zeros(energy.costs.shape[1], np.int32)
    for found in itertools.product(range(energy.classes), repeat=len(energy.inside)):
        labels[energy.inside] = found
        best = min(best, energy.total(labels))
    return best


SMALL = st.sampled_from([(2, 2, 2), (3, 2, 2), (1, 3, 3), (2, 5, 1), (1, 1, 9)])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), shape=SMALL, strength=st.floats(0, 3), contrast=st.sampled_from([0.0, 1.0])
)
def test_two_labels_reach_the_smallest_energy_of_all(seed, shape, strength, contrast):
    energy = _random_energy(np.random.default_rng(seed), shape, 2, strength, contrast, masked=True)
    assert energy.total(two_labels(energy)) == _smallest(energy)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), strength=st.floats(0, 3))
def test_an_expansion_is_the_best_there_is(seed, strength):
    rng = np.random.default_rng(seed)
    energy = _random_energy(rng, (3, 3, 1), 4, strength)
    labels = np.zeros(energy.costs.shape[1], np.int32)
    labels[energy.inside] = rng.integers(0, 4, 9)
    best = np.inf
    for takes in itertools.product([False, True], repeat=9):
        other = labels.copy()
        other[energy.inside[np.array(takes)]] = 2
        best = min(best, energy.total(other))
    found, changed = expand(energy, labels, 2)
    assert energy.total(found) == best
    assert changed == np.count_nonzero(found != labels)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), strength=st.floats(0, 4), masked=st.booleans())
def test_no_move_and_no_sweep_raises_the_energy(seed, classes, strength, masked):
    rng = np.random.default_rng(seed)
    energy = _random_energy(rng, (6, 5, 4), classes, strength, masked=masked)
    labels = np.zeros(energy.costs.shape[1], np.int32)
    labels[energy.inside] = rng.integers(0, classes, len(energy.inside))
    last = energy.total(labels)
    for sweeps in range(1, 4):
        now = energy.total(iterated_conditional_modes(energy, labels, max_sweeps=sweeps))
        assert now <= last
        last = now
    last = energy.total(labels)
    for alpha in [*range(classes), *range(classes)]:
        labels, _ = expand(energy, labels, alpha)
        assert energy.total(labels) <= last
        last = energy.total(labels)
    outside = np.setdiff1d(np.arange(labels.size), energy.inside)
    assert not labels[outside].any()


def test_iterated_conditional_modes_end_where_no_voxel_alone_can_improve():
    energy = _random_energy(np.random.default_rng(0), (7, 6, 5), 3, 0.5, masked=True)
    labels = iterated_conditional_modes(energy, energy.cheapest(), max_sweeps=50)
    for voxel, label in itertools.product(energy.inside, range(3)):
        other = labels.copy()
        other[voxel] = label
        assert energy.total(other) >= energy.total(labels)


def test_expansion_of_three_labels_is_close_to_the_smallest_energy():
    rng = np.random.default_rng(1)
    for _ in range(4):
        energy = _random_energy(rng, (2, 2, 2), 3, 1.0)
        smallest = _smallest(energy)
        assert smallest <= energy.total(alpha_expansion(energy)) <= 1.1 * smallest


def test_capacities_beyond_32_bits_are_cut_all_the_same():
    unary = np.array([2**31 - 1, 2**31 - 1, -(2**31) + 9, -(2**31) + 9, -7])
    heads, tails = np.array([0, 2, 1, 3]), np.array([2, 0, 3, 1])
    capacities = np.full(4, 2**31 - 1, np.int32)
    assert minimum_cut(unary, heads, tails, capacities).tolist()[-1]


def test_anisotropic_voxels_are_coupled_by_the_area_of_their_faces():
    energy = PottsEnergy.of(np.full((2, 2, 2, 2), 0.5), spacing=(1, 1, 4))
    weights = [int(weight.max()) for weight in energy.weights]
    assert weights[0] == weights[1] == pytest.approx(4 * weights[2], abs=4)
    assert np.prod(np.array(weights, float)) == pytest.approx(1000.0**3, rel=0.01)


def _spheres(classes, noise, seed=0, size=32):
    """A ball, with a core of its own for three classes, and what noise leaves of it."""
    rng = np.random.default_rng(seed)
    radius = np.linalg.norm(np.indices((size,) * 3) - (size - 1) / 2, axis=0)
    labels = (radius < 0.4 * size).astype(int)
    if classes == 3:
        labels += radius < 0.22 * size
    return labels, labels + rng.normal(0, noise, labels.shape)


def _dice(labels, truth):
    return [
        2
        * np.count_nonzero((labels == k) & (truth == k))
        / (np.count_nonzero(labels == k) + np.count_nonzero(truth == k))
        for k in range(1, truth.max() + 1)
    ]


@pytest.mark.thorough
@pytest.mark.parametrize("solver", ["graph-cut", "icm"])
@pytest.mark.parametrize(("classes", "noise"), [(2, 0.6), (3, 0.5)])
def test_smoothing_noisy_spheres_is_better_than_the_mixture_alone(classes, noise, solver):
    truth, voxels = _spheres(classes, noise)
    chances, _ = gaussian_mixture(voxels[None], classes)
    alone = _dice(chances.argmax(axis=0), truth)
    smoothed = _dice(smooth(chances, strength=1.0, solver=solver), truth)
    print(f"{classes} classes, {solver}: gmm {np.round(alone, 3)}, mrf {np.round(smoothed, 3)}")
    assert min(np.subtract(smoothed, alone)) > 0.05
    if solver == "graph-cut":
        assert min(smoothed) > 0.9


def test_contrast_keeps_a_thin_plate_that_plain_smoothing_loses():
    truth = np.zeros((12, 12, 12), int)
    truth[6] = 1
    chances = np.where(truth, 0.8, 0.2)
    both = np.stack([1 - chances, chances])
    assert not smooth(both, strength=1.0).any()
    np.testing.assert_array_equal(smooth(both, truth[None].astype(float), strength=1.0, contrast=1.0), truth)


def test_a_prior_joins_the_likelihoods():
    likelihoods = np.full((2, 4, 4, 4), 0.5)
    prior = np.zeros((2, 4, 4, 4))
    prior[1, :2] = prior[0, 2:] = 1
    assert (smooth(likelihoods, prior=prior, strength=0.1)[:2] == 1).all()
    assert (smooth(likelihoods, prior=prior, strength=0.1)[2:] == 0).all()


@pytest.mark.slow
def test_agrees_with_atropos_on_a_slab_of_the_phantom():
    """The same model but for details: Atropos smooths by ICM and raises a prior to a power."""
    import ants
    from scipy.ndimage import gaussian_filter

    from atlaseg.pipeline.synthetic.brain_phantom import make_subject

    subject = make_subject(3)
    middle = subject.image.shape[2] // 2
    image, labels = (a[..., middle - 8 : middle + 8] for a in (subject.image, subject.label))
    tissue = np.array([0, 1, 2, 3, 1, 2])[labels]
    mask = labels > 0
    prior = np.stack([gaussian_filter((tissue == k).astype(float), 2) + 1e-3 for k in (1, 2, 3)])
    prior /= prior.sum(axis=0)
    scan = Scan.of(image, subject.affine, mask=mask, prior=prior)
    chances, _ = gaussian_mixture(scan.voxels, 3, mask=mask, prior=prior)
    ours = np.where(mask, smooth(chances, spacing=scan.spacing, mask=mask, strength=0.1) + 1, 0)

    def volume(voxels):
        return ants.from_numpy(voxels.astype(np.float32), spacing=scan.spacing)

    found = ants.atropos(
        volume(scan.voxels[0]),
        volume(mask),
        i=[volume(p) for p in prior],
        priorweight=0.25,
        m="[0.1,1x1x1]",
        c="[20,0]",
    )
    theirs = found["segmentation"].numpy().astype(int)
    agreement, right, theirs_right = _dice(ours, theirs), _dice(ours, tissue), _dice(theirs, tissue)
    print(
        f"with Atropos: {np.round(agreement, 3)}; ours {np.round(right, 3)}, Atropos {np.round(theirs_right, 3)}"
    )
    assert min(agreement) > 0.85
    assert np.mean(agreement) > 0.93
    assert min(np.subtract(right, theirs_right)) > -0.02


def test_options_name_before_they_smooth():
    truth, voxels = _spheres(2, 0.6, size=24)
    mask = np.ones(truth.shape, bool)
    mask[:2] = False
    scan = Scan.of(voxels, mask=mask)
    options = MrfOptions(components=2, strength=1.0)
    chances = options.classes(scan).posteriors
    labels = options.smooth(chances, scan)
    assert not labels[:2].any()
    assert _dice(labels, truth * mask)[0] > 0.85


def test_bad_input():
    chances = np.full((2, 3, 3, 3), 0.5)
    with pytest.raises(OptionError, match="solver"):
        smooth(chances, solver="annealing")
    with pytest.raises(OptionError, match="max_cycles"):
        smooth(chances, max_cycles=0)
    with pytest.raises(OptionError, match="0 or more"):
        smooth(chances, strength=-1)
    with pytest.raises(OptionError, match="needs the image"):
        smooth(chances, contrast=1)
    with pytest.raises(GeometryError, match="the image has shape"):
        smooth(chances, np.ones((1, 3, 3, 4)))
    with pytest.raises(GeometryError, match="the prior has shape"):
        smooth(chances, prior=chances[:1])
    with pytest.raises(DatasetError, match="NaN"):
        smooth(np.full((2, 3, 3, 3), np.nan))
    with pytest.raises(DatasetError, match="image holds NaN"):
        smooth(chances, np.full((1, 3, 3, 3), np.nan), contrast=1)
