"""Segment one preprocessed scan on its own grid in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.inference.grid_map import GridMap
from atlaseg.pipeline.inference.rolling_slab import RollingSlab
from atlaseg.pipeline.inference.row_painter import RowPainter
from atlaseg.pipeline.inference.window_predictor import WindowPredictor
from atlaseg.pipeline.inference.windows import SlidingWindow, WindowGrid, gaussian_weights, pad_to_patch
from atlaseg.pipeline.io.grid import Grid
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["label_scan"]


def label_scan(
    image: MetaTensor,
    networks: Sequence[nn.Module],
    window: SlidingWindow,
    *,
    classes: int,
    grid: Grid,
    probabilities: bool | npt.NDArray[Any] = False,
    content: Sequence[slice] | None = None,
    progress: Progress | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Segment a scan with a sliding window and resample the labels to the scan's own grid.

    The labels are those of MONAI's ``SlidingWindowInferer(patch_size, overlap=overlap, mode="gaussian",
    padding_mode="replicate")``, softmax, ``Invertd`` of ``Orientationd``, ``Spacingd(mode="bilinear",
    padding_mode="border")`` and ``CropForegroundd`` with ``nearest_interp=False``, and argmax; only voxels
    where two classes are equal to float accuracy can differ. Voxels of the scan outside the crop are
    background (also where MONAI's rounding, 1e-15 voxels, brings a trace of the crop's edge to the voxel
    beyond it).

    Memory: with ``n`` the network's grid, ``a`` the axis where ``patch[a] / n[a]`` is smallest and ``A`` the
    voxels of a plane across it, ``4 * (K + 1) * patch[a] * A`` bytes of logits, a few planes of ``K``
    floats (of the network's grid and of the scan's), ``window.batch_size`` windows of ``K`` floats (two
    where members are averaged) and what the network itself needs. Neither the number of networks and mirrored
    copies nor the length of the scan along ``a`` matters; the result is held once, as integers.

    Args:
        image: preprocessed scan ``(C, *n)``, its affine (voxel -> RAS+ mm) that of the network's grid: the
            scan's axes permuted, flipped, scaled, cropped or padded. It is not changed.
        networks: one, or the members of an ensemble, ``(B, C, *patch) -> (B, K, *patch)`` logits. How
            members and mirrored copies are averaged:
            :class:`~atlaseg.pipeline.inference.window_predictor.WindowPredictor`.
        window: size, overlap and batch of the windows, mirroring, precision and device.
        classes: ``K``.
        grid: of the scan.
        probabilities: ``True`` for a new float16 array, or a floating array (such as a ``numpy.memmap``)
            ``(K, *grid.spatial_shape)`` to write into.
        content: for each axis, the voxels of ``image`` that are not padding, where it was padded *after* a
            crop: padding there covers voxels of the scan that were cropped away, which are background.
        progress: told the share done, rising to 1.

    Returns:
        Channel indices ``(*grid.spatial_shape)`` in the smallest unsigned type, and the probabilities
        ``(K, *grid.spatial_shape)``, which sum to one, or ``None``.

    Raises:
        GeometryError: shapes are not 3-D, the two grids are turned against each other, or a network's
            output does not have ``K`` channels at the size of the window.
        OptionError: ``classes``, the precision or a mirrored axis is invalid.
        PlanError: the networks gave values that are not finite.
    """
    shape = tuple(grid.spatial_shape)
    _check_shapes(image, window.patch_size, shape)
    if not 2 <= classes <= 65536:
        raise OptionError(f"classes must be 2 to 65536, background included, found {classes}")
    device = torch.device(window.device)
    grid_map = GridMap.between(np.asarray(grid.affine, dtype=np.float64), shape, image.affine.cpu().numpy())
    predictor = WindowPredictor(networks, classes, window.mirror_axes, window.precision, device)
    labels = np.zeros(shape, dtype=np.uint8 if classes <= 256 else np.uint16)
    chances = _probability_array(probabilities, classes, shape)
    with torch.inference_mode():
        padded, before = pad_to_patch(image.as_tensor().to(torch.float32), window.patch_size)
        parts = content or [slice(0, size) for size in image.shape[1:]]
        samples = [
            grid_map.samples(a, shape[grid_map.axes[a]], parts[a]).shifted(before[a]) for a in range(3)
        ]
        windows = WindowGrid.over(padded.shape[1:], window.patch_size, window.overlap)
        painter = RowPainter(grid_map, samples, windows.axis, labels, chances)
        slab = RollingSlab(classes, windows.shape, gaussian_weights(window.patch_size, device), windows.axis)
        with predictor.evaluating():
            done = 0
            for starts, finished in windows.batches(window.batch_size):
                batch = torch.stack([padded[(slice(None), *windows.window(start))] for start in starts])
                for start, logits in zip(starts, predictor(batch.to(device)), strict=True):
                    slab.add(start, logits)
                for row in finished:
                    painter.paint(row, *slab.row(row))
                    slab.release(row)
                done += len(starts)
                if progress is not None:
                    progress(done / len(windows), 1.0, "labelling")
    return labels, chances


def _probability_array(
    wanted: bool | npt.NDArray[Any], classes: int, shape: tuple[int, ...]
) -> npt.NDArray[Any] | None:
    """The array to fill, background everywhere at first."""
    if isinstance(wanted, np.ndarray):
        expected = (classes, *shape)
        if wanted.shape != expected or wanted.dtype.kind != "f":
            raise GeometryError(
                f"probabilities need a floating array {expected}, found {wanted.dtype} {wanted.shape}"
            )
        wanted[...] = 0
        wanted[0] = 1
        return wanted
    if not wanted:
        return None
    array = np.zeros((classes, *shape), dtype=np.float16)
    array[0] = 1
    return array


def _check_shapes(image: MetaTensor, patch_size: Sequence[int], shape: Sequence[int]) -> None:
    if image.ndim != 4 or len(patch_size) != 3 or len(shape) != 3:
        raise GeometryError(
            f"expected a scan (channels, x, y, z), a 3-D patch and a 3-D grid, found {tuple(image.shape)}, "
            f"{tuple(patch_size)} and {tuple(shape)}"
        )
    if min(*patch_size, *shape, *image.shape) < 1:
        raise GeometryError(
            f"every size must be at least 1, found scan {tuple(image.shape)}, patch {tuple(patch_size)}, "
            f"grid {tuple(shape)}"
        )
