"""``atlaseg phantom``: make a synthetic data set to try atlaseg without data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from atlaseg.pipeline.schema import Count, Seed

__all__ = ["Phantom"]


@dataclass(frozen=True)
class Phantom:
    """Make a synthetic labelled data set (Medical Segmentation Decathlon layout) to try atlaseg on.

    Raises:
        OptionError: the folder is not empty, or a number is out of range.
    """

    positional: ClassVar[tuple[str, ...]] = ("out",)

    out: Path
    """Folder to create; it must not exist or must be empty."""

    subjects: Count = 12
    """Number of labelled scans."""

    seed: Seed = 0
    """Random seed; the same seed gives the same files."""

    kind: Literal["brain", "ellipsoids-and-boxes", "noisy-spheres"] = "brain"
    """What the scans show: "brain" is the MNI152 T1 template under random warps, with five labelled tissues
    and structures; the others are simple shapes in noise, 64 x 64 x 64 voxels."""

    def run(self) -> int:
        """Write the data set and print its location; returns the exit code."""
        from atlaseg.pipeline.synthetic.brain_phantom import write_phantom
        from atlaseg.pipeline.synthetic.shapes import write_shapes

        if self.kind == "brain":
            dataset = write_phantom(self.out, self.subjects, self.seed)
        else:
            dataset = write_shapes(self.out, self.subjects, seed=self.seed, kind=self.kind)
        structures = ", ".join(dataset.labels.structures.values())
        print(f"{self.out}: {len(dataset.cases)} labelled scans; structures: {structures}")
        return 0
