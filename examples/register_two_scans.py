"""Register one scan to another, carry image and labels along, and see how well the labels agree then.

Run it with a folder for everything that it makes: python register_two_scans.py PLAYGROUND
"""

import sys
from pathlib import Path

import atlaseg

folder = Path(sys.argv[1])
fixed, moving = atlaseg.make_phantom(folder / "data", scans=2).cases

for transform in ("rigid", "affine"):  # or "syn", or "deformable", the default
    # The transform maps points of the fixed scan to points of the moving one, as in ITK, ANTs and elastix.
    found = atlaseg.register(fixed.images[0], moving.images[0], transform)
    atlaseg.write_transform(folder / f"{transform}.tfm", found.transform)  # 3D Slicer and ANTs read it too

    image, labels = (folder / f"{transform}_{what}.nii.gz" for what in ("image", "labels"))
    atlaseg.warp(moving.images[0], found.transform, fixed.images[0], image)
    atlaseg.warp(moving.label, found.transform, fixed.images[0], labels, labels=True)

    scores = atlaseg.evaluate(labels, fixed.label)
    print(f"{transform} by {found.engine} in {found.seconds:.1f} s: mean Dice {scores['dice'].mean():.3f}")
