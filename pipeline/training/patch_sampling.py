"""Sample training patches: the endless, resumable stream of batches, cut from preprocessed cases."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["PatchBatches", "PatchCutter", "PatchSampling", "TrainingCases", "foreground_voxels"]

#: Labelled voxels kept per case and structure, from which patch centres are drawn.
CENTRES_PER_STRUCTURE = 2000


class PatchCutter(Protocol):
    """Cuts one augmented patch out of a whole case, such as ``PatchDeformer``."""

    def set_random_state(self, seed: int) -> Any:
        """Make the next patch repeatable."""
        ...

    def sample(
        self, image: torch.Tensor, label: torch.Tensor, centre: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches ``(C, *patch)`` and ``(1, *patch)`` of ``(C, *S)`` and ``(1, *S)`` around a voxel."""
        ...


def foreground_voxels(label: npt.NDArray[Any], generator: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Voxel indices ``(n, D)`` of each structure that is present in ``label (*spatial)``, at most 2000 each."""
    flat = label.ravel()
    order = np.flatnonzero(flat)
    values = flat[order]
    found = []
    for value in np.unique(values):
        voxels = order[values == value]
        if len(voxels) > CENTRES_PER_STRUCTURE:
            voxels = generator.choice(voxels, CENTRES_PER_STRUCTURE, replace=False)
        found.append(np.stack(np.unravel_index(voxels, label.shape), axis=1))
    return found


@dataclass(frozen=True)
class PatchSampling:
    """Settings of patch sampling.

    Args:
        patch_size: in voxels.
        batch_size: patches per batch.
        iterations_per_epoch: batches per epoch.
        foreground_fraction: probability that a patch is centred on a labelled voxel.
        seed: of the whole stream of batches.
        warped_probability: probability that a patch comes from a warped version of its case, where it has any.
        unlabelled_share: share of patches from pseudo-labelled cases, where there are any.
        prior_channels: number of last image channels that are a prior, whose values are not intensities.
        prior_dropout: share of patches whose prior is set to zero.
    """

    patch_size: Sequence[int]
    batch_size: int
    iterations_per_epoch: int
    foreground_fraction: float = 0.5
    seed: int = 0
    warped_probability: float = 0.0
    unlabelled_share: float = 0.0
    prior_channels: int = 0
    prior_dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class TrainingCases:
    """Preprocessed cases: first the labelled ones, then warped versions of them, then pseudo-labelled ones.

    Args:
        items: all of them, each ``{"image": (C, *S), "label": (1, *S)}`` with channel indices as labels.
        sources: for each warped version, the index of the case it was made from.
        certainties: for each pseudo-labelled case, its weight in sampling.
    """

    items: Sequence[dict[str, Any]]
    sources: Sequence[int] = ()
    certainties: Sequence[float] = ()

    @property
    def labelled(self) -> int:
        """Number of labelled cases, without versions and pseudo-labelled ones."""
        return len(self.items) - len(self.sources) - len(self.certainties)

    def versions(self) -> dict[int, list[int]]:
        """Index of a labelled case -> indices of its warped versions."""
        found: dict[int, list[int]] = {}
        for number, source in enumerate(self.sources, start=self.labelled):
            found.setdefault(source, []).append(number)
        return found


class PatchBatches:
    """Batches of augmented patches; batch ``i`` depends on the seed and on ``i`` only.

    That makes training resumable without storing the state of a random generator: after an interruption the
    stream continues with the next batch. Every case is drawn once before any is drawn twice. A patch is
    centred on a voxel of a random structure (all structures of the case with equal probability) with
    probability ``foreground_fraction``, otherwise anywhere; it is then shifted to lie inside the case where
    the case is larger than the patch.

    ``len`` is the number of batches in an epoch; iteration itself does not end.

    Args:
        cases: to cut patches from.
        cutter: cuts and deforms (each thread uses a deep copy).
        intensity: MONAI transform of ``{"image": (C, *patch), "label": (1, *patch)}``, or ``None``.
        sampling: size, number and origin of the patches.
        workers: threads that prepare batches in advance; 0 prepares each batch on demand.
        device: where patches are cut; ``cuda`` leaves the resampling to the GPU.
        rank: of this process among ``world_size`` that train together; each draws its own batches.
        world_size: number of these processes.
    """

    #: Most cases that are kept in memory where the preprocessed cases are on disk.
    CASES_AT_HAND = 16

    def __init__(
        self,
        cases: TrainingCases,
        cutter: PatchCutter,
        intensity: Any,
        sampling: PatchSampling,
        *,
        workers: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.cases = cases
        self.cutter = cutter
        self.intensity = intensity
        self.sampling = sampling
        self.workers = workers
        self.device = torch.device(device)
        self.rank = rank
        self.world_size = world_size
        self._certainties = np.asarray(cases.certainties, dtype=float)
        self._versions = cases.versions()
        self.next_batch = 0
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._centres: dict[int, list[npt.NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return self.sampling.iterations_per_epoch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self.workers == 0:
            while True:
                batch = self.batch(self.next_batch)
                self.next_batch += 1
                yield batch
        with ThreadPoolExecutor(self.workers, thread_name_prefix="patches") as executor:
            pending: list[Future[dict[str, torch.Tensor]]] = []
            try:
                while True:
                    while len(pending) < 2 * self.workers:
                        pending.append(executor.submit(self.batch, self.next_batch + len(pending)))
                    batch = pending.pop(0).result()
                    self.next_batch += 1
                    yield batch
            finally:
                for future in pending:
                    future.cancel()

    def batch(self, index: int) -> dict[str, torch.Tensor]:
        """Batch number ``index``: ``image (B, C, *patch)`` float32 and ``label (B, 1, *patch)``."""
        cutter, intensity = self._tools()
        patches = []
        for place in range(self.sampling.batch_size):
            number = (index * self.world_size + self.rank) * self.sampling.batch_size + place
            generator = np.random.default_rng([self.sampling.seed, number])
            case = self._version_of(self._case_of(number), generator)
            image, label = self._cached(case)
            cutter.set_random_state(int(generator.integers(2**31)))
            image, label = cutter.sample(image, label, self._centre(case, label.shape[1:], generator))
            patch = self._without_prior(image, label)
            if intensity is not None:
                intensity.set_random_state(int(generator.integers(2**31)))
                patch = intensity(patch)
            patches.append(self._with_prior(patch, generator))
        return {key: torch.stack([torch.as_tensor(p[key]) for p in patches]) for key in ("image", "label")}

    def _tools(self) -> tuple[PatchCutter, Any]:
        """Transforms of the current thread, whose random state no other thread shares."""
        if not hasattr(self._thread, "tools"):
            self._thread.tools = (copy.deepcopy(self.cutter), copy.deepcopy(self.intensity))
        tools: tuple[PatchCutter, Any] = self._thread.tools
        return tools

    def _without_prior(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        """A patch with its prior as an entry of its own, which intensity augmentation leaves unchanged."""
        channels = self.sampling.prior_channels
        if not channels:
            return {"image": image, "label": label}
        return {"image": image[:-channels], "label": label, "prior": image[-channels:]}

    def _with_prior(
        self, patch: dict[str, torch.Tensor], generator: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """The patch with its prior as last channels again, or with zeros in their place."""
        if not self.sampling.prior_channels:
            return patch
        dropped = generator.random() < self.sampling.prior_dropout
        prior = torch.zeros_like(patch["prior"]) if dropped else patch["prior"]
        return {"image": torch.cat([torch.as_tensor(patch["image"]), prior]), "label": patch["label"]}

    def _version_of(self, case: int, generator: np.random.Generator) -> int:
        """The case itself, one of its warped versions, or a pseudo-labelled case in its place."""
        if len(self._certainties) and generator.random() < self.sampling.unlabelled_share:
            chances = self._certainties / self._certainties.sum()
            return len(self.cases.items) - len(chances) + int(generator.choice(len(chances), p=chances))
        versions = self._versions.get(case)
        if not versions or generator.random() >= self.sampling.warped_probability:
            return case
        return versions[int(generator.integers(len(versions)))]

    def _case_of(self, number: int) -> int:
        """Case of the sample with this number: pass after pass through all cases, each in a new random order."""
        round_, place = divmod(number, self.cases.labelled)
        order = np.random.default_rng([self.sampling.seed, 1, round_]).permutation(self.cases.labelled)
        return int(order[place])

    def _cached(self, case: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self._lock:
            if case in self._cache:
                self._cache.move_to_end(case)
                return self._cache[case]
        item = self.cases.items[case]
        image = torch.as_tensor(item["image"]).as_subclass(torch.Tensor)
        label = torch.as_tensor(item["label"]).as_subclass(torch.Tensor)
        with self._lock:
            if case not in self._centres:
                generator = np.random.default_rng([self.sampling.seed, 2, case])
                self._centres[case] = foreground_voxels(label[0].cpu().numpy(), generator)
            self._cache[case] = (image.to(self.device), label.to(self.device))
            while len(self._cache) > self.CASES_AT_HAND:
                self._cache.popitem(last=False)
            return image.to(self.device), label.to(self.device)

    def _centre(self, case: int, shape: Sequence[int], generator: np.random.Generator) -> list[int]:
        """Centre of the next patch in voxels; the patch lies inside the case where the case is large enough."""
        structures = self._centres[case]
        if structures and generator.random() < self.sampling.foreground_fraction:
            voxels = structures[generator.integers(len(structures))]
            centre = voxels[generator.integers(len(voxels))]
        else:
            centre = generator.integers(0, shape)
        patch = np.asarray(self.sampling.patch_size)
        low, high = patch // 2, np.asarray(shape) - patch + patch // 2
        # where the case is smaller than the patch, low > high: the case may lie anywhere inside the patch
        return [int(c) for c in np.clip(centre, np.minimum(low, high), np.maximum(low, high))]
