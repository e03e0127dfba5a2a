"""Augmentation of training patches after deformation: random intensity changes and mirroring."""

from __future__ import annotations

from monai.transforms import (
    Compose,
    Identityd,
    OneOf,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    ToTensord,
)

from atlaseg.pipeline.planning.plan import Augmentation

__all__ = ["intensity_augmentation"]

#: Width of the Gaussian blur in voxels.
BLUR_VOXELS = (0.5, 1.0)
#: Degree of the bias field's polynomials and range of their coefficients: fields mostly between 0.7 and 1.4.
BIAS_DEGREE, BIAS_COEFFICIENTS = 3, (-0.1, 0.1)
#: Exponents of the change of contrast, and the share of these whose negative is changed.
GAMMA, INVERTED_SHARE = (0.7, 1.5), 0.25
#: Size of the patch at its lower resolution.
LOW_RESOLUTION = (0.5, 1.0)
#: Largest relative change of scale, and largest shift in units of the normalised intensities.
SCALE, SHIFT = 0.25, 0.1


def intensity_augmentation(
    augmentation: Augmentation, image_key: str = "image", label_key: str = "label", prior_key: str = "prior"
) -> Compose:
    """MONAI's own transforms, in the order in which a scanner would cause what they imitate.

    Bias field and contrast come from the tissue and the coil, low resolution and blur from the acquisition,
    noise is last. Kinds and ranges follow nnU-Net (Isensee et al., Nature Methods 18, 2021), to which the
    bias field is added. A change whose probability is 0 costs nothing. One patch of 40 x 56 x 40 voxels
    takes 0.1 to 2 ms for each change that is drawn, on one CPU core.

    Args:
        augmentation: probabilities and strengths, of the plan.
        image_key: entry ``(C, *patch)`` whose intensities change.
        label_key: entry ``(1, *patch)`` that is mirrored with the image and otherwise left alone.
        prior_key: entry ``(K, *patch)`` that is treated like the label; it need not be there.

    Returns:
        A transform of dictionaries with these entries; all come out as plain tensors, the image float32.
        ``set_random_state(seed)`` makes it repeatable.

    >>> import torch
    >>> augment = intensity_augmentation(Augmentation(noise_probability=1.0)).set_random_state(0)
    >>> patch = {"image": torch.zeros(1, 8, 8, 8), "label": torch.ones(1, 8, 8, 8, dtype=torch.uint8)}
    >>> augment(patch)["image"].std() > 0
    tensor(True)
    """
    keys = (image_key, label_key, prior_key)
    transforms = [
        *_photometric(augmentation, image_key),
        *(
            RandFlipd(keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True)
            for axis in augmentation.flip_axes
        ),
        ToTensord(keys, track_meta=False, allow_missing_keys=True),
    ]
    return Compose(transforms)


def _photometric(augmentation: Augmentation, key: str) -> list[RandomizableTransform | OneOf]:
    """The changes of intensities whose probability is not 0."""
    bias, low = augmentation.bias_field_probability, augmentation.low_resolution_probability
    blur, noise = augmentation.blur_probability, augmentation.noise_probability
    sigma = {f"sigma_{axis}": BLUR_VOXELS for axis in "xyz"}
    candidates = [
        (bias, RandBiasFieldd(key, prob=bias, degree=BIAS_DEGREE, coeff_range=BIAS_COEFFICIENTS)),
        (augmentation.gamma_probability, _gamma(key, augmentation.gamma_probability)),
        (augmentation.intensity_probability, _scale_and_shift(key, augmentation.intensity_probability)),
        (low, RandSimulateLowResolutiond(key, prob=low, zoom_range=LOW_RESOLUTION)),
        (blur, RandGaussianSmoothd(key, prob=blur, **sigma)),
        (noise, RandGaussianNoised(key, prob=noise, std=augmentation.noise_std)),
    ]
    return [transform for probability, transform in candidates if probability > 0]


def _gamma(key: str, probability: float) -> OneOf:
    """Brightens or darkens what lies between the extremes; mean and deviation stay."""
    plain, inverted = (
        RandAdjustContrastd(key, prob=probability, gamma=GAMMA, invert_image=inverted, retain_stats=True)
        for inverted in (False, True)
    )
    return OneOf([plain, inverted], weights=(1 - INVERTED_SHARE, INVERTED_SHARE))


def _scale_and_shift(key: str, probability: float) -> OneOf:
    """Both or neither, which two transforms with probabilities of their own would not give."""
    both = Compose(
        [RandScaleIntensityd(key, factors=SCALE, prob=1.0), RandShiftIntensityd(key, offsets=SHIFT, prob=1.0)]
    )
    return OneOf([both, Identityd(key)], weights=(probability, 1 - probability))
