"""A fusion rule of your own, tried on atlases that are registered once.

To have it as a method of `atlaseg train` and `atlaseg segment`, put it into a package with an entry point; see
docs/how-to. Run it with a folder for everything that it makes: python own_fusion_rule.py PLAYGROUND
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import atlaseg


@dataclass(frozen=True)
class Unanimous:
    """A structure where at least a share of the atlases agrees on it, background elsewhere."""

    share: float = 0.8

    def fuse(self, candidates: atlaseg.Candidates, *, probabilities: bool = True) -> atlaseg.Fused:
        """Labels ``(*spatial)`` as indices, from candidates ``(atlases, *spatial)``."""
        votes = np.stack([(candidates.labels == k).mean(axis=0) for k in range(candidates.classes)])
        labels = votes.argmax(axis=0)
        labels[votes.max(axis=0) < self.share] = 0
        return atlaseg.Fused(
            labels.astype(candidates.labels.dtype), votes.astype(np.float32) if probabilities else None
        )


folder = Path(sys.argv[1])
*_, last = atlaseg.make_phantom(folder / "data", scans=5).cases

# Register the others to the last scan once; then every rule is a matter of seconds.
segmenter = atlaseg.load(folder / "data").choose(transform="affine")
carried = segmenter.propagate(atlaseg.read_image(last.images), without=last.name)

for rule in (Unanimous(share=0.5), Unanimous(share=1.0)):
    fused = rule.fuse(carried.candidates())
    labels = segmenter.atlases.labels.to_values(fused.labels)
    file = folder / f"{rule.share:g}.nii.gz"
    atlaseg.Segmentation(labels, carried.affine).save(file, last.images[0])
    print(f"share {rule.share:g}: mean Dice {atlaseg.evaluate(file, last.label)['dice'].mean():.3f}")
