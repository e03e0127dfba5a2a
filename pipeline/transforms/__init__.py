"""Changes of scans and patches that MONAI lacks or has only in a slow form.

Nothing is imported here, because every module needs torch: :mod:`pipeline.transforms.deformation` is the
random rotation, scaling and elastic deformation, :mod:`pipeline.transforms.intensity` the random change of
intensities.
"""
