"""The windows of a sliding-window pass, in the order that needs the least memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.inference.window_predictor import Precision

__all__ = ["SlidingWindow", "WindowGrid", "gaussian_weights", "pad_to_patch"]


@dataclass(frozen=True)
class SlidingWindow:
    """Settings of sliding-window prediction.

    Args:
        patch_size: of the window, in voxels of the network's grid.
        overlap: share by which neighbouring windows overlap, in [0, 1).
        batch_size: windows per forward pass.
        mirror_axes: axes of the network's array to mirror, in all combinations (test-time augmentation).
        precision: arithmetic of the networks.
        device: where networks and accumulated logits are.

    Raises:
        OptionError: the overlap or the batch size is out of range.
    """

    patch_size: tuple[int, ...]
    overlap: float = 0.5
    batch_size: int = 1
    mirror_axes: tuple[int, ...] = ()
    precision: Precision = "fp32"
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise OptionError(f"overlap must be at least 0 and less than 1, found {self.overlap}")
        if self.batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, found {self.batch_size}")


@dataclass(frozen=True)
class WindowGrid:
    """Positions of the windows, grouped along the axis in which rows are finished.

    Args:
        shape: of the (padded) array.
        patch_size: of a window, no larger than ``shape`` along any axis.
        axis: the slab axis.
        groups: windows' first voxels; one group for each position along ``axis``, in rising order.
    """

    shape: tuple[int, ...]
    patch_size: tuple[int, ...]
    axis: int
    groups: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def over(cls, shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> WindowGrid:
        """The windows of MONAI's ``sliding_window_inference``.

        The slab axis is the one along which a window's share of the array is smallest: a slab of a
        window's thickness then holds the fewest voxels.

        >>> grid = WindowGrid.over((8, 8, 20), (8, 8, 8), overlap=0.5)
        >>> grid.axis, [group[0] for group in grid.groups]
        (2, [(0, 0, 0), (0, 0, 4), (0, 0, 8), (0, 0, 12)])
        """
        interval = [
            size if patch == size else max(int(patch * (1 - overlap)), 1)
            for size, patch in zip(shape, patch_size, strict=True)
        ]
        slices = dense_patch_slices(shape, patch_size, interval)
        axis = min(range(len(shape)), key=lambda a: (patch_size[a] / shape[a], a))
        groups: dict[int, list[tuple[int, ...]]] = {}
        for window in slices:
            start = tuple(int(part.start) for part in window)
            groups.setdefault(start[axis], []).append(start)
        return cls(tuple(shape), tuple(patch_size), axis, tuple(tuple(groups[s]) for s in sorted(groups)))

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)

    def batches(self, size: int) -> Iterator[tuple[Sequence[tuple[int, ...]], range]]:
        """Up to ``size`` windows at a time, and the rows along the slab axis that no later window touches.

        >>> list(WindowGrid.over((4, 4, 6), (4, 4, 4), overlap=0.5).batches(1))
        [(((0, 0, 0),), range(0, 2)), (((0, 0, 2),), range(2, 6))]
        """
        for number, group in enumerate(self.groups):
            begin, end = group[0][self.axis], self.shape[self.axis]
            if number + 1 < len(self.groups):
                end = self.groups[number + 1][0][self.axis]
            for first in range(0, len(group), size):
                last = first + size >= len(group)
                yield group[first : first + size], range(begin, end if last else begin)

    def window(self, start: Sequence[int]) -> tuple[slice, ...]:
        """Slices of the spatial axes for the window that begins at ``start``."""
        return tuple(slice(s, s + p) for s, p in zip(start, self.patch_size, strict=True))


def pad_to_patch(image: torch.Tensor, patch_size: Sequence[int]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Repeat the edge of ``(C, *N)`` until no axis is shorter than the window; and the voxels added before.

    The edge is repeated (``SlidingWindowInferer(padding_mode="replicate")``) because reflection needs an
    image larger than the padding.
    """
    missing = [max(p - n, 0) for p, n in zip(patch_size, image.shape[1:], strict=True)]
    before = tuple(m // 2 for m in missing)
    if not any(missing):
        return image, before
    pairs = [side for m, b in zip(reversed(missing), reversed(before), strict=True) for side in (b, m - b)]
    return torch.nn.functional.pad(image[None], pairs, mode="replicate")[0], before


def gaussian_weights(patch_size: Sequence[int], device: torch.device) -> torch.Tensor:
    """Weight of each voxel of a window, as in MONAI: sigma an eighth of the window, at least 0.001."""
    weights: torch.Tensor = compute_importance_map(
        tuple(patch_size), mode="gaussian", sigma_scale=0.125, device=device, dtype=torch.float32
    )
    return weights
