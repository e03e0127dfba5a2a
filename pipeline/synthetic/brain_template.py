"""The average brain that phantoms are made from: MNI152 T1, its tissue maps, and two deep structures.

The maps are the ICBM 2009a nonlinear symmetric average of 152 young adults (Fonov et al., NeuroImage 54,
313-327 (2011), doi:10.1016/j.neuroimage.2010.07.033), skull-stripped, as nilearn ships them in its package.
They may be used, copied, modified and distributed for any purpose without fee where this notice stays:
"Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute,
McGill University".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BrainTemplate", "load_brain_template"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Full width at half maximum of a Gaussian, in standard deviations.
FWHM = 2.355
#: A voxel that lies surely in a lateral ventricle (right trigone), in MNI mm.
VENTRICLE_SEED_MM = (20, -40, 18)


@dataclass(frozen=True, eq=False)
class BrainTemplate:
    """Maps of the average brain on one grid, cropped to the brain.

    Args:
        t1: ``(X, Y, Z)``, T1 intensity in 0..1, 0 outside the brain.
        tissues: ``(3, X, Y, Z)``, probabilities of CSF, grey and white matter; they sum to one inside the
            brain and to zero outside.
        structures: ``(2, X, Y, Z)``, soft masks in 0..1 of where CSF is lateral ventricle, and where grey
            matter is deep grey matter.
        affine: ``(4, 4)``, voxel index -> MNI RAS+ mm.
    """

    t1: Floats
    tissues: Floats
    structures: Floats
    affine: npt.NDArray[np.float64]

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Middle of the grid in MNI mm."""
        middle = (np.array(self.t1.shape) - 1) / 2
        return self.affine[:3, :3] @ middle + self.affine[:3, 3]

    @cached_property
    def tissue_intensities(self) -> npt.NDArray[np.float64]:
        """Mean T1 intensity of CSF, grey and white matter, weighted by probability."""
        weights = self.tissues.reshape(3, -1).astype(np.float64)
        return weights @ self.t1.ravel() / weights.sum(axis=1)


@lru_cache(maxsize=3)
def load_brain_template(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> BrainTemplate:
    """The template as a scanner with the given voxel size would see it, still on its grid of 1 mm.

    Args:
        spacing: voxel size in mm along R, A, S; the maps are smoothed to it, so that they may be sampled that
            far apart without aliasing.

    The deep structures are cut from the tissue maps by rules, not drawn by an anatomist:

    * lateral ventricles: the connected CSF around the trigones (CSF probability over one half) within 40 mm
      of the midline and -10 < z < 38 mm, without the third ventricle (|x| <= 4 mm below z = 6 mm);
    * deep grey matter: where grey matter is the likeliest tissue within a rounded box about the midline
      (|x| < 33, -32 < y < 26, -9 < z < 21 mm, |x| > 2), opened by 2 mm; the largest piece on each side. This
      is the thalamus, the caudate head and most of the putamen; the pallidum counts as white matter here.
    """
    if spacing == (1.0, 1.0, 1.0):
        return _load_maps()
    return _smoothed(load_brain_template(), spacing)


def _load_maps() -> BrainTemplate:
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    image = load_mni152_template(resolution=1)
    t1 = np.asarray(image.dataobj, dtype=np.float32)
    grey = np.asarray(load_mni152_gm_template(resolution=1).dataobj, dtype=np.float32)
    white = np.asarray(load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    brain = t1 > 0
    affine = np.asarray(image.affine, dtype=np.float64)

    # A rim lets smoothing and sampling run out to zero; the brain stem is cut off at the template's edge.
    inside = np.argwhere(brain)
    start = np.maximum(inside.min(axis=0) - 4, 0)
    box = tuple(slice(a, b + 5) for a, b in zip(start, inside.max(axis=0), strict=True))
    affine[:3, 3] += affine[:3, :3] @ start
    brain, t1, grey, white = brain[box], t1[box], grey[box] * brain[box], white[box] * brain[box]
    tissues = np.stack([brain * np.clip(1 - grey - white, 0, 1), grey, white])
    tissues /= np.where(brain, tissues.sum(axis=0), 1)

    x, y, z = (np.arange(n) + affine[a, 3] for a, n in enumerate(t1.shape))
    position = tuple(np.meshgrid(x, y, z, indexing="ij", sparse=True))
    structures = np.stack(
        [_ventricle_region(tissues, position, affine), _deep_grey_region(tissues, position)]
    )
    return BrainTemplate(t1, tissues, structures.astype(np.float32), affine)


def _ventricle_region(tissues: Floats, position: tuple[Any, ...], affine: npt.NDArray[np.float64]) -> Mask:
    """The lateral ventricles and 2 mm around them, where all CSF belongs to the ventricles."""
    from scipy import ndimage

    x, y, z = position
    box = (np.abs(x) < 40) & (y > -65) & (y < 45) & (z > -10) & (z < 38)
    third = (np.abs(x) <= 4) & (z < 6)
    pieces, _ = ndimage.label((tissues[0] > 0.5) & box & ~third)
    seed = tuple(np.rint(np.array(VENTRICLE_SEED_MM) - affine[:3, 3]).astype(int))
    return ndimage.binary_dilation(pieces == pieces[seed], iterations=2)


def _deep_grey_region(tissues: Floats, position: tuple[Any, ...]) -> Mask:
    """Thalamus and striatum and 1 mm around them, where all grey matter is deep grey matter."""
    from scipy import ndimage

    x, y, z = position
    box = ((x / 33) ** 4 + ((y + 3) / 29) ** 4 + ((z - 6) / 15) ** 4 < 1) & (np.abs(x) > 2)
    grey = (tissues.argmax(axis=0) == 1) & (tissues[1] > 0)
    # Voxels between ventricle and white matter look grey by partial volume: a sheet, which opening removes.
    pieces, _ = ndimage.label(ndimage.binary_opening(grey & box, iterations=2))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return ndimage.binary_dilation(np.isin(pieces, np.argsort(sizes)[-2:]), iterations=1)


def _smoothed(template: BrainTemplate, spacing: tuple[float, float, float]) -> BrainTemplate:
    from scipy import ndimage

    # The template is itself an average over voxels of 1 mm; variances add up to those of the coarser voxel.
    sigma = [np.sqrt(max(s**2 - 1, 0)) / FWHM for s in spacing]

    def smooth(volume: Floats) -> Floats:
        return ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=3)

    return BrainTemplate(
        smooth(template.t1),
        np.stack([smooth(tissue) for tissue in template.tissues]),
        np.stack([smooth(structure) for structure in template.structures]),
        template.affine,
    )
