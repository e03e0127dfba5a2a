"""Distances between the surfaces of two masks as one number: HD95, ASSD and surface Dice.

On masks that are not empty and with surfaces of voxels, they equal MONAI's ``compute_hausdorff_distance`` (percentile
95), ``compute_average_surface_distance`` (symmetric) and ``compute_surface_dice``.
"""

from __future__ import annotations

from atlaseg.pipeline.evaluation.mask_pair import MaskPair

__all__ = ["assd", "hd95", "surface_dice"]

#: MONAI's distances are float32: a distance equal to the tolerance must not fall outside it by rounding.
_ROUNDING = 1e-5


def hd95(pair: MaskPair) -> float:
    """The larger of the two directed 95th percentiles of the distances to the other surface, mm.

    Source: Taha and Hanbury, BMC Medical Imaging 15:29 (2015), doi:10.1186/s12880-015-0068-x.
    """
    return max(pair.distances.to_reference.percentile_95(), pair.distances.to_prediction.percentile_95())


def assd(pair: MaskPair) -> float:
    """Mean of all distances, from both surfaces to the other one, mm."""
    there, back = pair.distances.to_reference, pair.distances.to_prediction
    return (there.total() + back.total()) / (there.area + back.area)


def surface_dice(pair: MaskPair) -> float:
    """Share of both surfaces that is within the tolerance of the other one, in [0, 1].

    Source: Nikolov et al., J Med Internet Res 23(7):e26151 (2021), doi:10.2196/26151, who weight surfaces by their area
    (surface ``elements``).
    """
    there, back = pair.distances.to_reference, pair.distances.to_prediction
    within = pair.tolerance_mm * (1 + _ROUNDING)
    return (there.area_within(within) + back.area_within(within)) / (there.area + back.area)
