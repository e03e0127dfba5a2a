"""Random rotation, scaling and elastic deformation in one resampling of image and label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.transforms.lattice import Lattice
from atlaseg.pipeline.transforms.sampling import reflected_crop, sample_linear, sample_nearest

__all__ = ["Deformation", "PatchDeformer", "RandDeform", "RandDeformd"]


@dataclass(frozen=True)
class Deformation:
    """One drawn deformation, as :meth:`atlaseg.pipeline.transforms.lattice.Lattice.coordinates` takes it.

    Args:
        matrix: ``(3, 3)`` pull-back rotation and scaling in mm.
        displacement: ``(3, *lattice.shape)`` of the control points in mm.
    """

    matrix: Tensor
    displacement: Tensor


class RandDeform(Randomizable):
    """Draws deformations of patches of one size.

    MONAI's ``Rand3DElastic`` smooths a displacement at every voxel and takes many times as long; here the
    displacement is drawn on a coarse lattice in mm, so that it does not depend on the voxel size.

    Args:
        patch_size: voxels of the patch.
        spacing: voxel size in mm.
        probability: share of patches that are deformed; the others are left exactly as they are.
        rotation_degrees: largest rotation about each axis.
        scaling: largest relative change of size: structures grow or shrink by a factor between
            ``1 - scaling`` and ``1 + scaling``, the same on every axis.
        elastic_mm: standard deviation of each component of the elastic displacement at the lattice's points.
        elastic_grid_mm: distance between the lattice's points.

    Raises:
        OptionError: a value outside its range.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        spacing: Sequence[float],
        *,
        probability: float = 0.8,
        rotation_degrees: float = 15.0,
        scaling: float = 0.15,
        elastic_mm: float = 1.5,
        elastic_grid_mm: float = 12.0,
    ) -> None:
        if not 0 <= probability <= 1:
            raise OptionError(f"probability must lie between 0 and 1, found {probability}")
        if rotation_degrees < 0 or elastic_mm < 0 or not 0 <= scaling < 1:
            raise OptionError(
                f"rotation_degrees and elastic_mm must not be negative and scaling must be at least 0 and "
                f"less than 1, found {rotation_degrees}, {elastic_mm} and {scaling}"
            )
        self.lattice = Lattice(patch_size, spacing, elastic_grid_mm)
        self.probability = probability
        self.rotation_degrees = rotation_degrees
        self.scaling = scaling
        self.elastic_mm = elastic_mm

    def draw(self) -> Deformation | None:
        """The next deformation, ``None`` for a patch that is left as it is."""
        if self.R.random_sample() >= self.probability:
            return None
        if not (self.rotation_degrees or self.scaling or self.elastic_mm):
            return None
        limit = np.deg2rad(self.rotation_degrees)
        rotation = _rotation(self.R.uniform(-limit, limit, size=3))
        factor = self.R.uniform(1 - self.scaling, 1 + self.scaling)
        noise = torch.from_numpy(self.R.standard_normal((3, *self.lattice.shape)).astype(np.float32))
        return Deformation(
            torch.from_numpy((rotation / factor).astype(np.float32)),
            self.lattice.control_displacement(noise, self.elastic_mm),
        )

    def coordinates(
        self,
        deformations: Sequence[Deformation],
        centre: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Places ``(B, 3, *patch_size)`` in voxels of the source, for ``B`` deformations about one centre."""
        return self.lattice.coordinates(
            torch.stack([d.matrix for d in deformations]).to(device),
            torch.stack([d.displacement for d in deformations]).to(device),
            centre,
        )


class PatchDeformer(RandDeform):
    """Cuts deformed patches directly out of whole cases.

    Cropping, rotation, scaling, elastic deformation and reflection at the scan's border are one resampling,
    and what turns into the patch is the scan around it, not padding. A patch that is not deformed is an
    exact crop.
    """

    def sample(self, image: Tensor, label: Tensor, centre: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The next patch around a voxel.

        Args:
            image: ``(C, *S)`` of any real type, interpolated linearly.
            label: ``(1, *S)`` channel indices or label values of any type: the nearest voxel's.
            centre: voxel that becomes voxel ``patch_size // 2`` of the patch; it may lie anywhere.

        Returns:
            image ``(C, *patch_size)`` float32 and label ``(1, *patch_size)`` of its own type, plain tensors
            on the device of the inputs. Both are copies.

        Raises:
            GeometryError: image and label have different grids.
        """
        image, label = _plain(image), _plain(label)
        if image.ndim != 4 or image.shape[1:] != label.shape[1:]:
            raise GeometryError(
                f"image {tuple(image.shape)} and label {tuple(label.shape)} must share one grid (C, X, Y, Z)"
            )
        size = self.lattice.patch_size
        start = [int(c) - n // 2 for c, n in zip(centre, size, strict=True)]
        deformation = self.draw()
        if deformation is None:
            return reflected_crop(image, start, size).float(), reflected_crop(label, start, size)
        middle = [s + (n - 1) / 2 for s, n in zip(start, size, strict=True)]
        places = self.coordinates([deformation], middle, image.device)[0]
        return sample_linear(image, places), sample_nearest(label, places)


class RandDeformd(Randomizable, MapTransform):
    """Deforms the entries of a dictionary together: one sample ``(C, *S)`` or a whole batch ``(B, C, *S)``.

    Each sample of a batch gets its own deformation; the same seed gives the same results one by one and
    batched. Where ``patch_size`` is smaller than the data, the patch is their central part, deformed with
    what is around it.

    Args:
        keys: entries that share one grid, such as ``("image", "label")``.
        mode: ``bilinear`` (result float32) or ``nearest`` (type kept), one for all or one for each key.
        patch_size: voxels of the result.
        spacing: voxel size in mm.
        allow_missing_keys: do not insist on every key.
        **options: ``probability``, ``rotation_degrees``, ``scaling``, ``elastic_mm`` and
            ``elastic_grid_mm`` of :class:`RandDeform`.

    Raises:
        OptionError: a value outside its range, an unknown mode.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        patch_size: Sequence[int],
        spacing: Sequence[float],
        mode: str | Sequence[str] = ("bilinear", "nearest"),
        allow_missing_keys: bool = False,
        **options: float,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        modes = (mode,) * len(self.keys) if isinstance(mode, str) else tuple(mode)
        if len(modes) != len(self.keys) or not set(modes) <= {"bilinear", "nearest"}:
            raise OptionError(
                f"mode takes bilinear or nearest for each of {list(self.keys)}, found {list(modes)}"
            )
        self.mode = modes
        self.deform = RandDeform(patch_size, spacing, **options)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandDeformd:
        """Seed the deformations, as MONAI's transforms are seeded."""
        super().set_random_state(seed, state)
        self.deform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with its entries deformed.

        Raises:
            GeometryError: entries have different grids or are no volumes.
        """
        result = dict(data)
        entries = {key: data[key] for key in self.key_iterator(result)}
        if not entries:
            return result
        first = next(iter(entries.values()))
        batched = first.ndim == 5
        grid = first.shape[-3:]
        if first.ndim not in (4, 5) or any(
            e.ndim != first.ndim or e.shape[-3:] != grid for e in entries.values()
        ):
            raise GeometryError(
                "entries must be volumes (C, X, Y, Z) or batches of them on one grid, found "
                + ", ".join(f"{key} {tuple(entry.shape)}" for key, entry in entries.items())
            )
        drawn = [self.deform.draw() for _ in range(len(first) if batched else 1)]
        start = [(n - p) // 2 for n, p in zip(grid, self.deform.lattice.patch_size, strict=True)]
        places = self._places(drawn, start, _plain(first).device)
        for key, mode in self.key_iterator(result, self.mode):
            plain = _plain(entries[key])
            samples = plain if batched else plain[None]
            patches = torch.stack(
                [
                    self._patch(sample, place, mode, start)
                    for sample, place in zip(samples, places, strict=True)
                ]
            )
            result[key] = _like(patches if batched else patches[0], entries[key], start)
        return result

    def _places(
        self, drawn: list[Deformation | None], start: list[int], device: torch.device
    ) -> list[Tensor | None]:
        """Coordinates of each sample, ``None`` where it is not deformed."""
        moved = [d for d in drawn if d is not None]
        if not moved:
            return [None] * len(drawn)
        middle = [s + (n - 1) / 2 for s, n in zip(start, self.deform.lattice.patch_size, strict=True)]
        coordinates = iter(self.deform.coordinates(moved, middle, device))
        return [None if d is None else next(coordinates) for d in drawn]

    def _patch(self, sample: Tensor, places: Tensor | None, mode: str, start: list[int]) -> Tensor:
        if places is None:
            patch = reflected_crop(sample, start, self.deform.lattice.patch_size)
            return patch.float() if mode == "bilinear" else patch
        return sample_linear(sample, places) if mode == "bilinear" else sample_nearest(sample, places)


def _rotation(angles: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rotation by three angles in radians about the array's axes, the first axis first."""
    from scipy.spatial.transform import Rotation

    matrix: np.ndarray[Any, np.dtype[np.float64]] = Rotation.from_euler("xyz", angles).as_matrix()
    return matrix


def _plain(data: Any) -> Tensor:
    """Array or tensor as a plain tensor on the same memory (a MetaTensor's bookkeeping costs more)."""
    if isinstance(data, MetaTensor):
        return data.as_tensor()
    return torch.as_tensor(data)


def _like(patch: Tensor, source: Any, start: Sequence[int]) -> Any:
    """Result in the source's kind; a MetaTensor keeps its meta data, with the affine of the central part."""
    if isinstance(source, MetaTensor):
        affine = source.affine.clone()
        shift = torch.as_tensor(start, dtype=affine.dtype, device=affine.device)
        affine[..., :3, 3] += affine[..., :3, :3] @ shift
        return MetaTensor(patch, meta={**source.meta, "affine": affine})
    return patch.numpy() if isinstance(source, np.ndarray) else patch
