"""A whole method: at each voxel the label that the training scans have there most often."""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np

from atlaseg.pipeline.case import Dataset, LabelTable
from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.io.volume import read_label_map
from atlaseg.pipeline.segmenter import Segmentation, refuse_mask
from atlaseg.pipeline.whole_methods import WholeMethod

ROW = WholeMethod(
    "usual-label", "the most frequent label of each voxel", "atlaseg_example.usual_label:UsualLabel"
)


class UsualLabel:
    """Learns, labels, saves and loads: :class:`atlaseg.pipeline.segmenter.Segmenter`."""

    def __init__(self) -> None:
        self.shares = np.zeros((0, 0, 0, 0), dtype=np.float32)
        self.labels = LabelTable.from_values([0])
        self.channels: tuple[str, ...] = ()

    def fit(self, dataset: Dataset) -> Self:
        """Count labels; the scans are on one grid."""
        self.labels, self.channels = dataset.labels, dataset.channels
        maps = [self.labels.to_indices(np.asarray(read_label_map(case.label))) for case in dataset.labelled]
        classes = np.arange(len(self.labels)).reshape(-1, 1, 1, 1)
        self.shares = np.mean([classes == indices for indices in maps], axis=0, dtype=np.float32)
        return self

    def segment(
        self, image: Any, *, probabilities: bool = False, mask: Any = None, progress: Any = None
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``."""
        refuse_mask(mask, "usual-label")
        if tuple(image.shape[1:]) != self.shares.shape[1:]:
            raise GeometryError(
                f"expected a scan on the training scans' grid {self.shares.shape[1:]}, found {tuple(image.shape[1:])}"
            )
        labels = self.labels.to_values(self.shares.argmax(axis=0))
        if progress is not None:
            progress(1, 1, "labelling")
        return Segmentation(labels, np.asarray(image.affine), self.shares if probabilities else None)

    def save(self, directory: Path) -> None:
        """Write data, never code."""
        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / "shares.npy", self.shares, allow_pickle=False)
        content = {
            "labels": dict(zip(self.labels.names, self.labels.values, strict=True)),
            "channels": self.channels,
        }
        (directory / "usual_label.json").write_text(json.dumps(content))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote."""
        content = json.loads((directory / "usual_label.json").read_text())
        method = cls()
        method.labels = LabelTable.from_names(content["labels"])
        method.channels = tuple(content["channels"])
        method.shares = np.load(directory / "shares.npy", allow_pickle=False)
        return method
