"""Transforms of scans and patches that MONAI lacks or has only in a slow form.

Nothing is imported here, because every module needs torch: :mod:`atlaseg.pipeline.transforms.deformation` is the
random rotation, scaling and elastic deformation, :mod:`atlaseg.pipeline.transforms.random_intensity` the random
change of intensities.
"""
