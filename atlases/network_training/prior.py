"""Priors: label probabilities of a scan from atlases, as input of a network.

The priors of training cases are made without the case itself (leave-one-out). With the case among its own atlases, a
network would learn to copy a prior that holds the answer, and fail on scans where it does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM
from atlaseg.atlases.registration.stage import Stage, stages_of
from atlaseg.atlases.registration.transforms.frames import as_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.templates.probabilistic import Members, ProbabilisticAtlas
from atlaseg.atlases.templates.template_tasks import fit
from atlaseg.pipeline.case import Case, LabelTable
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.files import read_json, write_text
from atlaseg.pipeline.io.volume import read_image, write_probabilities
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Prior

__all__ = [
    "FusedPrior",
    "LeaveOneOutPrior",
    "ProbabilisticPrior",
    "PropagatesProbabilities",
    "carry_probabilities",
    "prior_of",
    "write_priors",
]

Floats = npt.NDArray[np.float32]

#: What a folder of priors was made with; priors made otherwise are not mixed in.
SETTINGS = "priors.json"
#: Probabilities of a voxel may sum to one within this; they are then scaled to do so.
_ROUNDING = 1e-2


@runtime_checkable
class PropagatesProbabilities(Protocol):
    """Several atlases that can segment a scan, with or without one of them, such as ``MultiAtlasSegmenter``."""

    def propagate_probabilities(self, image: MetaTensor, without: str | None = None) -> Any:
        """Fused votes ``(K, *spatial)``, tensor or array, on the grid of the scan, background first.

        Args:
            image: ``(C, *spatial)``, affine in RAS+ mm.
            without: name of an atlas that takes no part, ``None`` for all.
        """
        ...


@runtime_checkable
class LeaveOneOutPrior(Protocol):
    """A prior that can also be computed without one of its cases (leave-one-out)."""

    def probabilities(self, image: MetaTensor) -> MetaTensor:
        """As :meth:`atlaseg.pipeline.segmenter.Prior.probabilities`."""
        ...

    def without(self, name: str) -> Prior:
        """The prior for a training case: made of all the others.

        Raises:
            DatasetError: there are no others, or it cannot be done.
        """
        ...


@dataclass(frozen=True, eq=False)
class FusedPrior:
    """Prior from the fused votes of several atlases, each registered to the scan.

    Args:
        atlases: anything that propagates and fuses.
        left_out: name of an atlas that takes no part.
    """

    atlases: PropagatesProbabilities
    left_out: str | None = None

    def probabilities(self, image: MetaTensor) -> MetaTensor:
        """Label probabilities ``(K, *spatial)`` on the grid of the scan, summing to one over ``K``.

        Raises:
            GeometryError: the votes do not lie on the grid of the scan.
            DatasetError: the votes are no probabilities.
            AtlasegError: the atlases could not be carried to the scan.
        """
        found = self.atlases.propagate_probabilities(image, without=self.left_out)
        votes = found.detach().cpu().numpy() if hasattr(found, "detach") else np.asarray(found)
        return _on_scan(_checked(votes, tuple(image.shape[1:])), image)

    def without(self, name: str) -> FusedPrior:
        """The prior of the other atlases; an unknown name is refused when the prior is computed."""
        return replace(self, left_out=name)


@dataclass(frozen=True, eq=False)
class ProbabilisticPrior:
    """Prior from the maps of a probabilistic atlas, whose template is registered to the scan.

    Maps are carried by linear interpolation. What the template does not cover is background with certainty.

    Args:
        atlas: template and maps.
        stages: name of a transform, or stages.
        engine: of the registration.
        seed: of the registration.
        threads: at most so many.
        members: the scans that the atlas was made of, for :meth:`without`.

    Raises:
        OptionError: there is no such transform.
    """

    atlas: ProbabilisticAtlas
    stages: str | tuple[Stage, ...] = DEFAULT_TRANSFORM
    engine: str = "auto"
    seed: int = 0
    threads: int = 1
    members: Members | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stages, str):
            stages_of(self.stages)

    def probabilities(self, image: MetaTensor) -> MetaTensor:
        """Label probabilities ``(K, *spatial)`` on the grid of the scan, summing to one over ``K``.

        Args:
            image: ``(C, *spatial)``, affine in RAS+ mm; the template's channel is registered.

        Raises:
            GeometryError: the scan is not 3-D or lacks the template's channel.
            DatasetError: the scan is constant or not finite.
            RegistrationError: the engine failed.
        """
        fixed = as_itk(image, self.atlas.channel)
        transform = fit(
            fixed,
            self.atlas.template,
            self.atlas.label_image(),
            self.stages,
            engine=self.engine,
            seed=self.seed,
            threads=self.threads,
        )
        return _on_scan(carry_probabilities(self.atlas, fixed, transform), image)

    def without(self, name: str) -> ProbabilisticPrior:
        """The prior of the atlas as made of the other cases:
        :meth:`atlaseg.atlases.templates.probabilistic.Members.without`.

        The case has no part in the maps nor in the template's image; in the shape of the template, 1 of ``N``.

        Raises:
            DatasetError: the members are not known, or the case is not one of them.
        """
        if self.members is None:
            raise DatasetError(
                f"{self.atlas.name}: a prior without {name} needs the scans that the atlas was made of; give its "
                "members"
            )
        if name not in self.members.known:
            raise DatasetError(
                f"{self.atlas.name}: no case of the atlas is called {name}; give the cases it was made of"
            )
        if name not in self.members.names:
            return replace(self, members=None)  # left out of the template: it has no part in it as it is
        return replace(self, atlas=self.members.without(name), members=None)


def prior_of(segmenter: MultiAtlasSegmenter, found: Propagation, image: MetaTensor) -> MetaTensor:
    """Prior of a scan from atlases that are already propagated to it, as :class:`FusedPrior` computes it.

    Args:
        segmenter: whose rule fuses.
        found: what its ``propagate`` gave for the scan.
        image: the scan ``(C, *spatial)``.
    """
    votes = segmenter.fuse(found, probabilities=True, corrected=False).probabilities
    return _on_scan(_checked(np.asarray(votes), tuple(image.shape[1:])), image)


def carry_probabilities(atlas: ProbabilisticAtlas, grid: sitk.Image, transform: Transform) -> Floats:
    """Resample the maps of a probabilistic atlas to another grid, by linear interpolation.

    Args:
        atlas: template and maps.
        grid: any image on the grid that is wanted.
        transform: point of the grid -> point of the template.

    Returns:
        ``(K, x, y, z)`` float32, sums to one; background where the template has nothing.
    """
    import SimpleITK as sitk

    # all maps at once, so that the transform is worked out once for each voxel
    maps = sitk.GetImageFromArray(np.ascontiguousarray(atlas.probabilities.T), isVector=True)
    maps.CopyInformation(atlas.template)
    carried = sitk.Resample(maps, grid, transform.itk, sitk.sitkLinear, 0.0, sitk.sitkVectorFloat32)
    found: Floats = np.ascontiguousarray(sitk.GetArrayViewFromImage(carried).T)
    outside = found.sum(axis=0) < 0.5  # the sum is 1 inside and 0 outside, with nothing between
    found[:, outside] = 0
    found[0][outside] = 1
    return _checked(found, grid.GetSize())


def _checked(votes: npt.NDArray[Any], shape: tuple[int, ...]) -> Floats:
    """Probabilities that sum to one to the last digit, or an error."""
    if votes.ndim != 4 or votes.shape[1:] != shape:
        raise GeometryError(f"prior has shape {votes.shape}, expected (labels, {', '.join(map(str, shape))})")
    values = votes.astype(np.float32)
    sums = values.sum(axis=0)
    if not (values.min() >= -_ROUNDING and np.abs(sums - 1).max() <= _ROUNDING):
        raise DatasetError(
            f"prior is not made of probabilities: least {values.min():.4g}, sums from {sums.min():.4g} to "
            f"{sums.max():.4g}, expected 1"
        )
    np.clip(values, 0, None, out=values)
    values /= values.sum(axis=0)
    return values


def _on_scan(probabilities: Floats, image: MetaTensor) -> MetaTensor:
    import torch
    from monai.data import MetaTensor

    return MetaTensor(torch.from_numpy(probabilities), affine=torch.as_tensor(image.affine).clone())


def write_priors(
    cases: Sequence[Case],
    prior: LeaveOneOutPrior,
    folder: Path,
    *,
    labels: LabelTable,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    others: Sequence[Case] = (),
) -> dict[str, Path]:
    """Priors of training cases, each made without the case itself, and of cases that the prior does not know.

    Every prior is a 4-D file ``NAME.nii.gz``, one volume for each label, written whole or not at all. Priors that are
    there are kept, so that an interrupted call resumes; a folder made with other settings is refused.

    Args:
        cases: that the prior may know.
        prior: of all cases.
        folder: for the files.
        labels: of the ``K`` maps.
        settings: what the priors are made with, plain values; kept in ``priors.json``.
        progress: told the number of finished and of all priors.
        others: cases that are not atlases, whose priors are made as those of new scans.

    Returns:
        Case name -> file.

    Raises:
        OptionError: the folder holds priors that were made with other settings.
        GeometryError: the prior has not one map for each label.
        AtlasegError: a scan is missing or broken, or the atlases could not be carried to it.
    """
    content = {"labels": dict(zip(labels.names, labels.values, strict=True)), "settings": settings or {}}
    _claim(folder, json.loads(json.dumps(content)))
    written = {}
    whole = [*((case, True) for case in cases), *((case, False) for case in others)]
    for number, (case, known) in enumerate(whole, start=1):
        path = folder / f"{case.name}.nii.gz"
        if not path.is_file():
            own = prior.without(case.name) if known else prior
            found = own.probabilities(read_image(case.images))
            if len(found) != len(labels):
                raise GeometryError(f"{case.name}: the prior has {len(found)} maps, expected {len(labels)}")
            write_probabilities(path, found.detach().cpu().numpy(), case.images[0])
        written[case.name] = path
        if progress:
            progress(number, len(whole), "making priors")
    return written


def _claim(folder: Path, content: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.is_file():
        if read_json(path) != content:
            raise OptionError(f"{path}: priors here were made with other settings; choose an empty folder")
        return
    if any(folder.glob("*.nii.gz")):
        raise OptionError(f"{folder}: holds volumes other than priors of atlaseg; choose an empty folder")
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
