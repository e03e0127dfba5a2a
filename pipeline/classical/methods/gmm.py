"""Gaussian mixture by expectation maximisation, with an atlas prior and a bias field where wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.bias_field import field_at, fit_field, polynomial_basis
from atlaseg.pipeline.classical.samples import blocks, check_classes, chosen_voxels, rows, voxels_inside
from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = [
    "COMPONENTS",
    "GmmOptions",
    "Mixture",
    "fit_mixture",
    "gaussian_mixture",
    "maximise",
    "prior_rows",
    "variance_floor",
]

Floats = npt.NDArray[np.float64]

#: Smallest variance of a class along any direction, as a share of the mean variance of the channels.
SMALLEST_VARIANCE = 1e-6
#: Smallest prior probability of any class at any voxel, so that no voxel is impossible.
SMALLEST_PRIOR = 1e-6
#: Numbers of classes that training tries where none is set.
COMPONENTS = (8, 16)
#: Samples that look for the first means.
FIRST_MEANS = 20_000


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians that samples may come from.

    Args:
        weights: ``(K,)`` share of each class, sums to one; used where there is no prior.
        means: ``(K, C)`` intensities, ascending in the first channel unless the classes came with a prior.
        covariances: ``(K, C, C)``.
        bias: ``(C, B)`` coefficients of the bias field's polynomials, or ``None``.
        log_likelihood: mean over samples after each iteration, natural logarithm; never falls.
        converged: it stood still before the iterations were over.
    """

    weights: Floats
    means: Floats
    covariances: Floats
    bias: Floats | None = None
    log_likelihood: tuple[float, ...] = ()
    converged: bool = False

    def log_densities(self, samples: Floats, gain: Floats | None = None) -> Floats:
        """``log p(sample | class)``, ``(N, K)``.

        Args:
            samples: ``(N, C)``.
            gain: ``(N, C)``, the bias field at the samples.
        """
        found = np.empty((len(samples), len(self.means)))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            root = np.linalg.cholesky(covariance)
            away = samples - (mean if gain is None else gain * mean)
            whitened = away @ np.linalg.inv(root).T
            found[:, k] = -0.5 * np.einsum("nc,nc->n", whitened, whitened) - np.log(np.diag(root)).sum()
        return found - 0.5 * samples.shape[1] * np.log(2 * np.pi)

    def posteriors(
        self, samples: Floats, prior: Floats | None = None, gain: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """``p(class | sample)``, ``(N, K)``, and ``log p(sample)``, ``(N,)``.

        Args:
            samples: ``(N, C)``.
            prior: ``(N, K)`` probabilities in place of the weights.
            gain: ``(N, C)``, the bias field at the samples.
        """
        joint = self.log_densities(samples, gain)
        joint += np.log(np.maximum(self.weights, np.finfo(float).tiny) if prior is None else prior)
        largest = joint.max(axis=1, keepdims=True)
        np.exp(joint - largest, out=joint)
        total = joint.sum(axis=1, keepdims=True)
        joint /= total
        return joint, (largest + np.log(total))[:, 0]

    def ordered(self) -> Mixture:
        """The same with the classes in ascending order of their mean in the first channel."""
        order = np.argsort(self.means[:, 0], kind="stable")
        return replace(
            self, weights=self.weights[order], means=self.means[order], covariances=self.covariances[order]
        )


def fit_mixture(
    samples: npt.NDArray[np.floating],
    components: int,
    *,
    prior: npt.NDArray[np.floating] | None = None,
    basis: Floats | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    seed: int = 0,
) -> Mixture:
    """Expectation maximisation of a Gaussian mixture: full covariances, weights or a prior for each sample.

    Dempster, Laird and Rubin, Journal of the Royal Statistical Society B 39(1):1-38 (1977),
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x. Covariances have no eigenvalue below a small floor, which is
    the likeliest covariance under that bound, so the likelihood never falls even where a class holds one value only.
    With ``basis``, a smooth gain multiplies the means (the idea of Wells et al., IEEE Transactions on Medical Imaging
    15(4):429-442 (1996), and of Van Leemput et al., IEEE TMI 18(10):885-896 (1999),
    https://doi.org/10.1109/42.811268, whose polynomials are used here, on intensities rather than on their
    logarithms); each M-step then takes classes and gain in turn, and covariances are diagonal.

    Args:
        samples: ``(N, C)``.
        components: ``K``, number of classes.
        prior: ``(N, K)`` probability of each class at each sample; replaces the weights and fixes where the
            classes begin, else k-means does.
        basis: ``(N, B)`` polynomials at the samples (:func:`atlaseg.pipeline.classical.bias_field.polynomial_basis`).
        tolerance: done when the mean log-likelihood rises by less.
        max_iterations: done at the latest after so many.
        seed: of k-means.

    Raises:
        OptionError: more classes than different samples, or an option out of range.
        GeometryError: the prior does not fit.

    >>> values = np.concatenate([np.linspace(0, 2, 50), np.linspace(9, 11, 150)])[:, None]
    >>> fit_mixture(values, 2).means.round(3).ravel().tolist()
    [1.0, 10.0]
    """
    table: Floats = np.ascontiguousarray(samples, dtype=np.float64)
    check_classes(table, components, "gmm")
    if not tolerance >= 0 or max_iterations < 1:
        raise OptionError(
            "gmm: tolerance must not be negative and max_iterations be at least 1, found "
            f"{tolerance:g} and {max_iterations}"
        )
    chances = None if prior is None else prior_rows(prior, (len(table), components))
    floor = variance_floor(table)
    mixture = _beginning(table, components, chances, basis, floor, seed)
    history: list[float] = []
    converged = False
    while len(history) < max_iterations and not converged:
        gain = None if basis is None or mixture.bias is None else field_at(basis, mixture.bias)
        posterior, evidence = mixture.posteriors(table, chances, gain)
        history.append(float(evidence.mean()))
        converged = len(history) > 1 and history[-1] - history[-2] <= tolerance
        if not converged and len(history) < max_iterations:
            mixture = maximise(table, posterior, mixture, floor, gain)
            if basis is not None:
                mixture = _bias_step(table, posterior, mixture, basis)
    mixture = replace(mixture, log_likelihood=tuple(history), converged=converged)
    return mixture if prior is not None else mixture.ordered()


def gaussian_mixture(
    voxels: npt.NDArray[np.floating],
    components: int = 3,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    prior: npt.NDArray[np.floating] | None = None,
    bias_order: int = 0,
    zero: float | Sequence[float] = 0.0,
    max_samples: int = 500_000,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float32], Mixture]:
    """Probability of each class at each voxel of a volume, from its intensities.

    The mixture is fitted (:func:`fit_mixture`) to as many voxels as are asked for, drawn at random, and applied to all.

    Args:
        voxels: ``(C, x, y, z)``.
        components: ``K``.
        mask: ``(x, y, z)``, where to work; elsewhere all probabilities are 0.
        prior: ``(K, x, y, z)``, in place of the classes' shares of the volume.
        bias_order: highest degree of the polynomials of a bias field; 0 is none, 2 to 4 are usual.
        zero: intensity of no signal, which a bias field leaves as it is, of all channels or of each.
        max_samples: voxels that the mixture is fitted to, at most.
        tolerance: as in :func:`fit_mixture`.
        max_iterations: as there.
        seed: of the draw and of k-means.

    Returns:
        ``(K, x, y, z)`` float32, and the mixture (its means as distances from ``zero``).

    Raises:
        OptionError: more classes than different values, or an option out of range.
        GeometryError: shapes do not fit.
        DatasetError: no voxel to work on, or some not finite.
    """
    inside = voxels_inside(voxels, mask)
    if prior is not None and prior.shape != (components, *voxels.shape[1:]):
        raise GeometryError(
            f"the prior has shape {prior.shape}, expected {(components, *voxels.shape[1:])}: one map for each class"
        )
    if not 0 <= bias_order <= 8:
        raise OptionError(f"gmm: bias_order must lie between 0 and 8, found {bias_order}")
    dark = np.asarray(zero, dtype=np.float64)
    drawn = chosen_voxels(inside, max_samples, seed)
    mixture = fit_mixture(
        rows(voxels, drawn) - dark,
        components,
        prior=None if prior is None else rows(prior, drawn),
        basis=polynomial_basis(drawn, voxels.shape[1:], bias_order) if bias_order else None,
        tolerance=tolerance,
        max_iterations=max_iterations,
        seed=seed,
    )
    found = np.zeros((components, voxels[0].size), dtype=np.float32)
    for block in blocks(inside):
        chances = None if prior is None else prior_rows(rows(prior, block), (len(block), components))
        gain = None
        if mixture.bias is not None:
            gain = field_at(polynomial_basis(block, voxels.shape[1:], bias_order), mixture.bias)
        found[:, block] = mixture.posteriors(rows(voxels, block) - dark, chances, gain)[0].T
    return found.reshape(components, *voxels.shape[1:]), mixture


@dataclass(frozen=True)
class GmmOptions:
    """Gaussian mixture of the intensities (:func:`gaussian_mixture`).

    Args:
        components: number of classes; ``None``: training chooses among :data:`COMPONENTS`, without any it is
            the first of them. With ``use_prior`` the prior's labels are the classes instead.
        use_prior: let a scan's prior take the place of the classes' shares of the volume; each label is then one
            Gaussian, and needs no naming.
        bias_order: highest degree of the polynomials of a bias field; 0 is none.
        max_samples: voxels that the mixture is fitted to, at most.
        max_iterations: of expectation maximisation.
        seed: of the draw of voxels and of k-means.
    """

    name: ClassVar[str] = "gmm"

    components: int | None = None
    use_prior: bool = False
    bias_order: int = 0
    max_samples: int = 50_000
    max_iterations: int = 60
    seed: int = 0

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Candidate values of each unset option."""
        return {"components": COMPONENTS} if self.components is None and not self.use_prior else {}

    def classes(self, scan: Scan) -> Classes:
        """Probability of each class at each voxel of a scan."""
        prior = scan.prior if self.use_prior else None
        components = COMPONENTS[0] if self.components is None else self.components
        posteriors, _ = gaussian_mixture(
            scan.voxels,
            components if prior is None else len(prior),
            mask=scan.mask,
            prior=prior,
            bias_order=self.bias_order,
            zero=scan.zero or 0.0,
            max_samples=self.max_samples,
            max_iterations=self.max_iterations,
            seed=self.seed,
        )
        return Classes(posteriors=posteriors, named=prior is not None)


def prior_rows(prior: npt.NDArray[np.floating], shape: tuple[int, int]) -> Floats:
    """A prior ``(N, K)`` with a floor, and rows that sum to one.

    Raises:
        GeometryError: its shape is not ``shape``.
    """
    if prior.shape != shape:
        raise GeometryError(f"the prior has shape {prior.shape}, expected {shape}: samples by classes")
    chances: Floats = np.maximum(np.asarray(prior, dtype=np.float64), SMALLEST_PRIOR)
    return chances / chances.sum(axis=1, keepdims=True)


def _beginning(
    samples: Floats, components: int, prior: Floats | None, basis: Floats | None, floor: float, seed: int
) -> Mixture:
    """Classes from the prior, or from k-means on some of the samples."""
    from sklearn.cluster import KMeans

    channels = samples.shape[1]
    share = prior
    if share is None:
        some = samples[chosen_voxels(np.arange(len(samples)), FIRST_MEANS, seed)]
        if len(np.unique(some, axis=0)) < components:
            some = samples
        centres = KMeans(components, n_init=3, random_state=seed).fit(some).cluster_centers_
        nearest = np.argmin(((samples[:, None] - centres) ** 2).sum(axis=2), axis=1)
        share = np.eye(components)[nearest]
    empty = Mixture(
        np.full(components, 1 / components),
        np.tile(samples.mean(axis=0), (components, 1)),
        np.tile(np.eye(channels) * max(float(samples.var()), floor), (components, 1, 1)),
    )
    mixture = maximise(samples, share, empty, floor)
    if basis is None:
        return mixture
    diagonal = mixture.covariances * np.eye(channels)
    return replace(mixture, covariances=diagonal, bias=np.zeros((channels, basis.shape[1])))


def variance_floor(samples: Floats) -> float:
    """Smallest variance that a class of samples ``(N, C)`` may have."""
    return SMALLEST_VARIANCE * max(float(samples.var(axis=0).mean()), float(np.finfo(float).tiny))


def maximise(
    samples: Floats, posterior: Floats, before: Mixture, floor: float, gain: Floats | None = None
) -> Mixture:
    """The likeliest weights, means and covariances given the posterior.

    Args:
        samples: ``(N, C)``.
        posterior: ``(N, K)``.
        before: classes without any sample stay as they are in it.
        floor: smallest variance of a class (:func:`variance_floor`).
        gain: ``(N, C)``, the bias field at the samples; covariances are diagonal then.
    """
    counts = posterior.sum(axis=0)
    means, covariances = before.means.copy(), before.covariances.copy()
    for k in np.flatnonzero(counts > 0):
        share = posterior[:, k]
        if gain is None:
            means[k] = share @ samples / counts[k]
            away = samples - means[k]
            covariance = (away * share[:, None]).T @ away / counts[k]
        else:
            means[k] = share @ (gain * samples) / (share @ gain**2)
            covariance = np.diag(share @ (samples - gain * means[k]) ** 2 / counts[k])
        covariances[k] = _floored(covariance, floor)
    return replace(before, weights=counts / counts.sum(), means=means, covariances=covariances)


def _floored(covariance: Floats, floor: float) -> Floats:
    """The covariance with no eigenvalue below ``floor``."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] >= floor:
        return covariance
    return (vectors * np.maximum(values, floor)) @ vectors.T


def _bias_step(samples: Floats, posterior: Floats, mixture: Mixture, basis: Floats) -> Mixture:
    """The likeliest gain given the posterior and the classes."""
    bias = np.zeros((samples.shape[1], basis.shape[1]))
    for c in range(samples.shape[1]):
        precision = 1 / mixture.covariances[:, c, c]
        mean = mixture.means[:, c]
        bias[c] = fit_field(
            basis, posterior @ (precision * mean**2), (posterior @ (precision * mean)) * samples[:, c]
        )
    return replace(mixture, bias=bias)
