"""Train a small network on synthetic brains, label those that it has not seen, and score the labels.

Run it with a folder for everything that it makes: python first_network.py PLAYGROUND [MINUTES]
"""

import sys
from pathlib import Path

import atlaseg

folder = Path(sys.argv[1])
minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0

# Your own scans: a folder in one of the layouts that `atlaseg check` reads.
dataset = atlaseg.make_phantom(folder / "data", scans=8)
print(f"structures: {', '.join(dataset.labels.structures.values())}")

# Fold 0 of 4: six scans to learn from, two for validation. The same line goes on where it was interrupted.
segmenter = atlaseg.train(
    folder / "data",
    folder / "run",
    method="unet",
    folds=4,
    minutes=minutes,
    override=["patch_size=[48,48,48]"],
    tracking="none",
)

for name, files in atlaseg.validation_scans(folder / "run").items():
    segmenter.segment(atlaseg.read_image(files)).save(folder / "labels" / f"{name}.nii.gz", files[0])

scores = atlaseg.evaluate(folder / "labels", folder / "data/labelsTr", only_predicted=True)
print(scores.groupby("structure")[["dice", "hd95_mm"]].mean().round(3))
