"""A classical method: voxels fall into bins of intensity, which labelled scans give names."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from atlaseg.pipeline.classical.registry import ClassicalRow
from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.schema import Count

ROW = ClassicalRow(
    "intensity-bins",
    "bins of intensity, each with as many voxels",
    "atlaseg_example.intensity_bins:IntensityBinsOptions",
    "unsupervised",
)


@dataclass(frozen=True)
class IntensityBinsOptions:
    """The fields of a method are its options: ``--option bins=12``."""

    name: ClassVar[str] = "intensity-bins"

    bins: Count = 8

    def classes(self, scan: Scan) -> Classes:
        """The bin of each voxel, 1 to ``bins`` inside the mask."""
        values = scan.voxels[0][scan.mask]
        edges = np.quantile(values, np.linspace(0, 1, self.bins + 1)[1:-1])
        regions = np.zeros(scan.shape, dtype=np.int32)
        regions[scan.mask] = np.unique(np.digitize(values, edges), return_inverse=True)[1] + 1
        return Classes(regions=regions)
