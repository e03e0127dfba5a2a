"""Registration by atlaseg's own engine, on torch: dense warps and linear mappings, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError
from atlaseg.atlases.registration.engine_facts import DENSE_VOXELS, EngineFacts, Preset
from atlaseg.atlases.registration.stage import LINEAR, Stage
from atlaseg.atlases.registration.transforms.displacement import displacement_transform
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["TorchEngine"]


@dataclass(frozen=True)
class TorchEngine:
    """Linear stages, and a dense warp by the gradient of the local correlation (:mod:`.torch_dense`).

    It draws nothing at random: equal images give equal results, on one device and number of threads to the last
    bit. Every voxel counts, so there is no sampling. Masks weigh what they cover; a warp bends what lies outside only
    as far as its smoothness carries it.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto``: a GPU where torch sees one.
    """

    name: ClassVar[str] = "torch"
    kinds: ClassVar[frozenset[str]] = frozenset({*LINEAR, "deformable"})
    metrics: ClassVar[frozenset[str]] = frozenset({"ssd", "ncc", "lncc"})
    facts: ClassVar[EngineFacts] = EngineFacts(
        presets={
            "linear": Preset("lncc", "lncc", (100, 100, 50), radius=4, most_voxels=1_000_000),
            "deformable": Preset(
                "lncc", "lncc", (100, 100, 20), radius=5, radius_in_crops=2, most_voxels=DENSE_VOXELS
            ),
        },
        revision=1,
    )

    device: str = "auto"

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points.

        Args:
            problem: the images. Where its initial transform is deformable, the moving image is carried onto the grid
                of the fixed one first, and what lies outside of it is not seen.
            stages: complete; ``samples`` 0.

        Raises:
            OptionError: sampling, or a device that torch does not have.
            RegistrationError: there is nothing to go by, or the result is not finite or off the moving image.
        """
        for stage in stages:
            if stage.samples:
                raise OptionError(
                    f"{stage.kind}: the engine torch has no sampling, found samples {stage.samples}; leave it out"
                )
        require_contrast(self.name, problem)
        require_overlap(self.name, problem, problem.initial, "the initial transform")
        current = problem.initial
        with _threads(problem.threads):
            device = _device(self.device)
            for stage in stages:
                step = _linear if stage.kind in LINEAR else _dense
                pair = problem if current.is_linear else problem.carried(current)
                begin = current.matrix if current.is_linear else np.eye(4)
                current = Transform.compose([step(pair, stage, begin, device), current])
        require_overlap(self.name, problem, current, "the result")
        return current


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"no device {name!r}; choose auto, cpu or cuda") from error
    if device.type not in {"cpu", "cuda"}:
        raise OptionError(f"no device {name!r}; choose auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"the device {name!r} was asked for, and torch sees no GPU; choose auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"the device {name!r} was asked for, and torch sees {torch.cuda.device_count()}, counted from 0"
        )
    return device


def _linear(
    problem: Problem, stage: Stage, begin: npt.NDArray[np.float64], device: torch.device
) -> Transform:
    from atlaseg.atlases.registration.engines.torch.torch_linear import linear_mapping
    from atlaseg.atlases.registration.engines.torch.torch_pyramid import levels

    matrix = linear_mapping(
        levels(problem, stage, device),
        stage.kind,
        begin,
        affine_of(problem.fixed),
        affine_of(problem.moving),
        problem.fixed.GetSize(),
        str(stage.metric),
        stage.metric_radius,
    )
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise RegistrationError(
            f"torch: the {stage.kind} stage ended in a matrix that is not invertible; try a mask or another engine"
        )
    return Transform.from_matrix(matrix)


def _dense(problem: Problem, stage: Stage, begin: npt.NDArray[np.float64], device: torch.device) -> Transform:
    """The warp that goes before a matrix: fixed points -> fixed points."""
    import torch

    from atlaseg.atlases.registration.engines.torch.torch_dense import dense_warp
    from atlaseg.atlases.registration.engines.torch.torch_pyramid import levels

    affine = affine_of(problem.fixed)
    between = np.linalg.inv(affine_of(problem.moving)) @ begin @ affine
    with torch.no_grad():
        warp = dense_warp(
            levels(problem, stage, device),
            problem.fixed.GetSize(),
            between,
            str(stage.metric),
            stage.metric_radius,
        )
    voxels = warp.cpu().numpy().astype(np.float64)
    if not np.isfinite(voxels).all():
        raise RegistrationError("torch: the warp is not finite; try another metric or more smoothing")
    return displacement_transform(np.einsum("ab,bxyz->axyz", affine[:3, :3], voxels), affine)
