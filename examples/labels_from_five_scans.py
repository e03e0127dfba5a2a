"""Label a scan by five labelled ones: they are registered to it, and their labels are fused. Nothing is trained.

Run it with a folder for everything that it makes: python labels_from_five_scans.py PLAYGROUND
"""

import sys
from pathlib import Path

import atlaseg

folder = Path(sys.argv[1])
dataset = atlaseg.make_phantom(folder / "data", scans=6)
*atlases, last = dataset.cases
print(f"{len(atlases)} atlases label {last.name}")

# A folder of labelled scans is all that is needed: atlaseg.load("DATASET"). Here one of them plays the new scan, so it
# must not be among the atlases.
segmenter = atlaseg.load(folder / "data").choose(
    transform="affine"
)  # "deformable", the default, is better and slower
image = atlaseg.read_image(last.images)
result = segmenter.segment(
    image, without=last.name, progress=lambda done, total, what: print(what, done, "of", total)
)
result.save(folder / "labels.nii.gz", last.images[0])

scores = atlaseg.evaluate(folder / "labels.nii.gz", last.label)
print(scores[["structure", "dice", "volume_difference_percent"]].round(3).to_string(index=False))
