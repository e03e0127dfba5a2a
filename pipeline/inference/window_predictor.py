"""Predict one batch of windows with one or several networks: precision, mirroring, ensembling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Literal

import torch
from torch import nn

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["Precision", "WindowPredictor"]

Precision = Literal["fp32", "bf16", "fp16"]
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Smallest mean probability whose logarithm is taken: keeps a class that every network excludes finite.
_LEAST_PROBABILITY = 1e-30


class WindowPredictor:
    """Logits of windows from one or several networks, on request averaged over mirrored copies.

    One network without mirroring gives its logits as they are. Otherwise the softmax of all members
    (networks times mirrored copies) is averaged within the window and its logarithm returned. Windows are
    blended after that, so that one accumulator serves any number of members; as a softmax takes no notice
    of a constant added to all classes, blending logits or log-probabilities is the same, and an ensemble of
    equal networks equals the network. Each window is mirrored, not the scan, as in nnU-Net (Isensee et al.,
    Nature Methods 18, 203-211, 2021).

    Args:
        networks: ``(B, C, *patch) -> (B, classes, *patch)``.
        classes: ``K``, channels of every network's output.
        mirror_axes: spatial axes of the array that are mirrored, in all combinations.
        precision: arithmetic of the networks (autocast); the logits returned are float32.
        device: where the networks run; they are moved there.

    Raises:
        OptionError: no network, an axis that is not 0, 1 or 2, or an unknown precision.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        classes: int,
        mirror_axes: Sequence[int],
        precision: Precision,
        device: torch.device,
    ) -> None:
        if not networks:
            raise OptionError("segmentation needs at least one network, found none")
        if precision != "fp32" and precision not in _AUTOCAST:
            raise OptionError(f"precision must be fp32, bf16 or fp16, found {precision!r}")
        axes = tuple(sorted(set(mirror_axes)))
        if any(axis not in (0, 1, 2) for axis in axes):
            raise OptionError(f"mirror axes must be among 0, 1 and 2, found {list(axes)}")
        self.networks = [network.to(device) for network in networks]
        self.classes = classes
        self.flips = [
            tuple(axis + 2 for axis in chosen)
            for count in range(len(axes) + 1)
            for chosen in combinations(axes, count)
        ]
        self.precision = precision
        self.device = device

    @property
    def members(self) -> int:
        """Forward passes per window."""
        return len(self.networks) * len(self.flips)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Networks in evaluation mode, and as they were afterwards."""
        modes = [(module, module.training) for network in self.networks for module in network.modules()]
        for network in self.networks:
            network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits or log-probabilities ``(B, K, *patch)``, float32, of windows ``(B, C, *patch)``."""
        if self.members == 1:
            return self._logits(self.networks[0], windows).float()
        total: torch.Tensor | None = None
        for network in self.networks:
            for flip in self.flips:
                # float() before the softmax: half precision would round probabilities to three digits
                logits = self._logits(network, windows.flip(flip)).float()
                probabilities = torch.softmax(logits, dim=1).flip(flip)
                total = probabilities if total is None else total.add_(probabilities)
        if total is None:
            raise OptionError("segmentation needs at least one network, found none")
        return total.div_(self.members).clamp_(min=_LEAST_PROBABILITY).log_()

    def _logits(self, network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
        dtype = _AUTOCAST.get(self.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            logits = network(windows)
        expected = (windows.shape[0], self.classes, *windows.shape[2:])
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
            found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise GeometryError(
                f"the network must give {expected} (windows, classes, voxels), found {found}; "
                "check that its classes and patch size are those of the plan"
            )
        return logits
