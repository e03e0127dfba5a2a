"""Scans of every kind of geometry, small random networks, and MONAI's own pipeline to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    Invertd,
    NormalizeIntensityd,
    Orientationd,
    Spacingd,
)
from nibabel.orientations import axcodes2ornt
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Geometry:
    shape: tuple[int, int, int]
    codes: str = "RAS"
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> np.ndarray:
        """Voxel -> RAS+ mm of an array with these axes, turned by the angles (degrees)."""
        affine = np.eye(4)
        for axis, (world, sign) in enumerate(axcodes2ornt(self.codes)):
            affine[:3, axis] = sign * self.spacing[axis] * np.eye(3)[int(world)]
        affine[:3, :3] = Rotation.from_euler("xyz", self.angles, degrees=True).as_matrix() @ affine[:3, :3]
        affine[:3, 3] = (-31.4, 12.7, 5.3)
        return affine


GEOMETRIES = {
    "ras": (Geometry((30, 26, 22)), (1.5, 1.5, 1.5)),
    "lps-same-spacing": (Geometry((22, 30, 26), "LPS"), (1.0, 1.0, 1.0)),
    "pir": (Geometry((25, 21, 30), "PIR", (1.1, 0.9, 1.3)), (1.0, 1.2, 0.8)),
    "oblique": (Geometry((28, 24, 26), "LAS", (0.9, 1.0, 1.2), (13, -9, 21)), (1.3, 1.3, 1.3)),
    "oblique-permuted": (Geometry((24, 30, 20), "SPL", (1.2, 0.8, 1.0), (-8, 12, 5)), (1.0, 1.0, 1.5)),
    "anisotropic": (Geometry((48, 44, 9), "LPS", (0.7, 0.7, 5.0)), (1.5, 1.5, 1.5)),
    "anisotropic-in-plane-kept": (Geometry((36, 32, 8), "RAS", (0.7, 0.7, 5.0)), (0.7, 0.7, 1.5)),
    "finer-than-network": (Geometry((40, 44, 36), "RSA", (0.5, 0.5, 0.5)), (1.2, 1.2, 1.2)),
    "single-slice": (Geometry((30, 26, 1), "RAS", (0.8, 0.8, 5.0)), (1.0, 1.0, 5.0)),
    "smaller-than-patch": (Geometry((9, 30, 7), "LPI", (1.0, 1.0, 1.4)), (1.0, 1.0, 1.0)),
}


def scan(geometry: Geometry, seed: int = 0, channels: int = 1, margin: int = 3) -> MetaTensor:
    """Smooth random intensities, zero in a margin on the low side so that the foreground crop cuts."""
    rng = np.random.default_rng(seed)
    voxels = gaussian_filter(rng.normal(size=(channels, *geometry.shape)), (0, 1, 1, 1))
    voxels = (voxels - voxels.min() + 0.1).astype(np.float32)
    for axis, size in enumerate(geometry.shape):
        if size > 4 * margin:
            voxels.swapaxes(0, axis + 1)[:margin] = 0
    return MetaTensor(torch.from_numpy(voxels), affine=torch.from_numpy(geometry.affine))


def preprocessing(spacing: tuple[float, float, float], codes: str = "RAS") -> Compose:
    return Compose(
        [
            Orientationd("image", axcodes=codes, labels=None),
            Spacingd("image", pixdim=spacing, mode="bilinear", padding_mode="border"),
            NormalizeIntensityd("image", nonzero=True),
            CropForegroundd("image", source_key="image", select_fn=lambda x: x != 0, allow_smaller=True),
        ]
    )


def monai_probabilities(
    data: dict[str, MetaTensor],
    transform: Compose,
    predictor: Callable[[torch.Tensor], torch.Tensor],
    patch: tuple[int, int, int],
    overlap: float = 0.5,
) -> torch.Tensor:
    """Probabilities ``(K, *scan)`` by MONAI's plain pipeline, zero outside the crop."""
    inferer = SlidingWindowInferer(patch, 1, overlap, mode="gaussian", padding_mode="replicate")
    with torch.inference_mode():
        logits = inferer(data["image"][None], predictor)[0]
    pred = MetaTensor(torch.softmax(logits.as_tensor(), dim=0), meta=data["image"].meta)
    back = Invertd("pred", transform, orig_keys="image", nearest_interp=False, to_tensor=True)
    return back({"image": data["image"], "pred": pred})["pred"].as_tensor()


def random_network(classes: int = 5, channels: int = 1, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = UNet(3, channels, classes, channels=(4, 8), strides=(2,), num_res_units=0, norm="batch").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)  # decided labels, so that the map has structure
    return network
