"""The endless, resumable stream of training batches, cut from preprocessed cases that are kept in memory or on disk."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["PatchBatches", "PatchCutter", "foreground_voxels"]

#: Labelled voxels remembered per case and structure, of which centres are drawn.
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


class PatchBatches:
    """Batches of augmented patches; batch ``i`` depends on the seed and on ``i`` only.

    That makes training resumable without storing any state of a random generator: after an interruption the
    stream goes on with the batch that is due. Every case is drawn once before any is drawn twice. A patch is
    centred on a voxel of a structure drawn at random (each structure of the case alike) with probability
    ``foreground_fraction``, else anywhere; it is then moved into the case as far as the case is larger.

    Args:
        dataset: preprocessed cases, each ``{"image": (C, *S), "label": (1, *S)}`` with channel indices as labels.
        cutter: cuts and deforms (deep copies of it are used, one a thread).
        intensity: MONAI transform of ``{"image": (C, *patch), "label": (1, *patch)}``, or ``None``.
        patch_size: in voxels.
        batch_size: patches per batch.
        iterations_per_epoch: what ``len`` says; iteration itself does not end.
        foreground_fraction: between 0 and 1.
        seed: of the whole stream.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        device: where patches are cut; ``cuda`` leaves the resampling to the GPU.
        rank: of this process among ``world_size`` that train together; each draws its own batches.
        world_size: number of these processes.
        sources: of the items of ``dataset`` that are warped versions of others and follow them: the index of each one's
            original. They are not cases of their own.
        warped_probability: that a patch comes from a version of its case instead, where it has any.
        certainties: of the last ``len(certainties)`` items, whose labels are not by a person: they are drawn in
            proportion to it.
        unlabelled_share: share of patches from these.
        prior_channels: how many of an image's last channels are a prior, whose values are not intensities.
        prior_dropout: share of patches whose prior is set to zero.
    """

    #: Cases of a data set kept on disk that stay in memory.
    CASES_AT_HAND = 16

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        cutter: PatchCutter,
        intensity: Any,
        patch_size: Sequence[int],
        batch_size: int,
        iterations_per_epoch: int,
        foreground_fraction: float = 0.5,
        seed: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        sources: Sequence[int] = (),
        warped_probability: float = 0.0,
        certainties: Sequence[float] = (),
        unlabelled_share: float = 0.0,
        prior_channels: int = 0,
        prior_dropout: float = 0.0,
    ) -> None:
        self.dataset = dataset
        self.cutter = cutter
        self.intensity = intensity
        self.patch_size = tuple(int(n) for n in patch_size)
        self.batch_size = batch_size
        self.iterations_per_epoch = iterations_per_epoch
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        self.workers = workers
        self.device = torch.device(device)
        self.rank = rank
        self.world_size = world_size
        self.prior_channels = prior_channels
        self.prior_dropout = prior_dropout
        self.warped_probability = warped_probability
        self.unlabelled_share = unlabelled_share
        self._certainties = np.asarray(certainties, dtype=float)
        self._originals = len(dataset) - len(sources) - len(certainties)
        self._versions: dict[int, list[int]] = {}
        for number, source in enumerate(sources, start=self._originals):
            self._versions.setdefault(source, []).append(number)
        self.next_batch = 0
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._cases: OrderedDict[int, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._centres: dict[int, list[npt.NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return self.iterations_per_epoch

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
        for place in range(self.batch_size):
            number = (index * self.world_size + self.rank) * self.batch_size + place
            generator = np.random.default_rng([self.seed, number])
            case = self._version_of(self._case_of(number), generator)
            image, label = self._case(case)
            cutter.set_random_state(int(generator.integers(2**31)))
            image, label = cutter.sample(image, label, self._centre(case, label.shape[1:], generator))
            patch = self._split(image, label)
            if intensity is not None:
                intensity.set_random_state(int(generator.integers(2**31)))
                patch = intensity(patch)
            patches.append(self._joined(patch, generator))
        return {key: torch.stack([torch.as_tensor(p[key]) for p in patches]) for key in ("image", "label")}

    def _tools(self) -> tuple[PatchCutter, Any]:
        """This thread's own transforms: their random state is not shared."""
        if not hasattr(self._thread, "tools"):
            self._thread.tools = (copy.deepcopy(self.cutter), copy.deepcopy(self.intensity))
        tools: tuple[PatchCutter, Any] = self._thread.tools
        return tools

    def _split(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        """A patch with its prior apart, because a prior has no intensities to be changed."""
        if not self.prior_channels:
            return {"image": image, "label": label}
        return {
            "image": image[: -self.prior_channels],
            "label": label,
            "prior": image[-self.prior_channels :],
        }

    def _joined(
        self, patch: dict[str, torch.Tensor], generator: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        if not self.prior_channels:
            return patch
        dropped = generator.random() < self.prior_dropout
        prior = torch.zeros_like(patch["prior"]) if dropped else patch["prior"]
        return {"image": torch.cat([torch.as_tensor(patch["image"]), prior]), "label": patch["label"]}

    def _version_of(self, case: int, generator: np.random.Generator) -> int:
        """The case itself, one of its warped versions, or a scan that was labelled by atlases in its place."""
        if len(self._certainties) and generator.random() < self.unlabelled_share:
            chances = self._certainties / self._certainties.sum()
            return len(self.dataset) - len(chances) + int(generator.choice(len(chances), p=chances))
        versions = self._versions.get(case)
        if not versions or generator.random() >= self.warped_probability:
            return case
        return versions[int(generator.integers(len(versions)))]

    def _case_of(self, number: int) -> int:
        """Case of the sample with this number: pass after pass through all cases, each in its own order."""
        round_, place = divmod(number, self._originals)
        order = np.random.default_rng([self.seed, 1, round_]).permutation(self._originals)
        return int(order[place])

    def _case(self, case: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self._lock:
            if case in self._cases:
                self._cases.move_to_end(case)
                return self._cases[case]
        item = self.dataset[case]
        image = torch.as_tensor(item["image"]).as_subclass(torch.Tensor)
        label = torch.as_tensor(item["label"]).as_subclass(torch.Tensor)
        with self._lock:
            if case not in self._centres:
                generator = np.random.default_rng([self.seed, 2, case])
                self._centres[case] = foreground_voxels(label[0].cpu().numpy(), generator)
            self._cases[case] = (image.to(self.device), label.to(self.device))
            while len(self._cases) > self.CASES_AT_HAND:
                self._cases.popitem(last=False)
            return image.to(self.device), label.to(self.device)

    def _centre(self, case: int, shape: Sequence[int], generator: np.random.Generator) -> list[int]:
        """Centre of the next patch in voxels, such that the patch lies inside the case where it can."""
        structures = self._centres[case]
        if structures and generator.random() < self.foreground_fraction:
            voxels = structures[generator.integers(len(structures))]
            centre = voxels[generator.integers(len(voxels))]
        else:
            centre = generator.integers(0, shape)
        patch = np.asarray(self.patch_size)
        low, high = patch // 2, np.asarray(shape) - patch + patch // 2
        # where the case is smaller than the patch, low > high: the case may lie anywhere inside the patch
        return [int(c) for c in np.clip(centre, np.minimum(low, high), np.maximum(low, high))]
