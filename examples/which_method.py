"""Train several methods on the same scans and score them on the same others.

`atlaseg benchmark` does this with every case, several folds, times and statistics; this is the idea of it.
Run it with a folder for everything that it makes: python which_method.py PLAYGROUND
"""

import sys
from pathlib import Path

import atlaseg

METHODS = {
    "gmm": {},
    "watershed": {},
    "majority": {"transform": "affine"},
}

folder = Path(sys.argv[1])
atlaseg.make_phantom(folder / "data", scans=6)

# The same fold for all: five scans to learn from, one to be labelled.
for method, options in METHODS.items():
    run, labels = folder / method, folder / "labels" / method
    segmenter = atlaseg.train(folder / "data", run, method=method, folds=6, **options)
    for name, files in atlaseg.validation_scans(run).items():
        segmenter.segment(atlaseg.read_image(files)).save(labels / f"{name}.nii.gz", files[0])
    scores = atlaseg.evaluate(labels, folder / "data/labelsTr", only_predicted=True)
    of_each = ", ".join(f"{row.structure} {row.dice:.3f}" for row in scores.itertuples())
    print(f"{method}: mean Dice {scores['dice'].mean():.3f} ({of_each})")
