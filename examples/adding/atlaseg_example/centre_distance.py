"""A metric: how far the centres of a structure lie apart."""

import numpy as np

from atlaseg.pipeline.evaluation.mask_pair import MaskPair
from atlaseg.pipeline.evaluation.metrics import Metric

ROW = Metric(
    "centre_distance_mm",
    "distance between the centres of both masks",
    "atlaseg_example.centre_distance:centre_distance_mm",
    label="centre distance",
    unit="mm",
    better="low",
    best=0.0,
    worst="diagonal",
)


def centre_distance_mm(pair: MaskPair) -> float:
    """In mm; both masks have voxels, others get the row's ``best`` and ``worst``."""
    found, truth = (np.argwhere(mask).mean(axis=0) for mask in (pair.prediction, pair.reference))
    return float(np.linalg.norm((found - truth) * np.asarray(pair.mask_spacing)))
