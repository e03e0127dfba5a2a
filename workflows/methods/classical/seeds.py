"""``atlaseg segment`` without a run: region growing from seeds of the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.classical.seed_options import Seeds
from atlaseg.workflows.methods.family import Source
from atlaseg.workflows.methods.labeller import Labeller
from atlaseg.workflows.methods.option_groups import names_in

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["SEEDS", "SeedLabeller", "SeedSource", "read_seed"]

#: Regions that fill more than this part of a scan are told of: no structure does, but air and bright scans do.
MOST_OF_SCAN = 0.5


class SeedSource(Source):
    """Seeds, from which a classical method grows regions without having learnt anything."""

    plural = "seeds"
    labelling = ("masks", *names_in(Seeds))

    def is_asked_for(self, job: LabellingJob) -> bool:
        """Whether a job names a method or a seed instead of a run."""
        return job.seeds.method is not None or bool(job.seeds.seed)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:  # noqa: ARG002
        """What grows the regions."""
        return SeedLabeller(job)

    def keeps_no_cases(self, folders: tuple[Path, ...]) -> str:  # noqa: ARG002
        """There is no run."""
        return "labels the validation cases of a run: name one, without --method"


def _leak(grown: int, reachable: int) -> str:
    """Warning about a region that fills most of the volume."""
    if grown <= MOST_OF_SCAN * reachable:
        return ""
    return (
        f", {grown / reachable:.0%} of all: it has leaked into its surroundings; try --option multiplier=1.5 (the "
        "default is 2.5), or --option homogeneity=neighbourhood with a --option tolerance that suits"
    )


class SeedLabeller(Labeller):
    """Grows regions from seeds that a person gives, the same in every scan; nothing is learnt.

    Args:
        job: what was asked for; without probabilities, since regions have none.

    Raises:
        OptionError: another method, no seed, or an option is not possible.
    """

    channels = 1

    def __init__(self, job: LabellingJob) -> None:
        from atlaseg.pipeline.classical.registry import make_method, read_options
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.workflows.inputs.scan_masks import refuse_missing_masks

        super().__init__()
        method, known = job.seeds.method, " or ".join(seeded_methods())
        if method not in seeded_methods():
            raise OptionError(
                f"--method {method}: only {known} goes without a run; name a run of atlaseg train"
                if method
                else f"--seed: for --method {known} only; name the method, or a run without seeds"
            )
        if not job.seeds.seed:
            raise OptionError(f"{method} without a run needs --seed x,y,z: name a voxel of each structure")
        if job.probabilities:
            raise OptionError("--probabilities: regions grown from seeds have none; leave it out")
        refuse_missing_masks(job.masks)
        self.masks = job.masks
        self.seeds = [read_seed(text) for text in job.seeds.seed]
        self.options: Any = make_method(method, read_options(method, job.seeds.option))

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan."""
        import numpy as np

        from atlaseg.pipeline.case import LabelTable
        from atlaseg.pipeline.classical.scan import Scan
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.segmenter import Segmentation
        from atlaseg.workflows.inputs.scan_masks import mask_of

        image = read_image(files)
        scan = Scan.of(image, mask=mask_of(self.masks, name, files[0]))
        table = LabelTable.from_values(value for value, _, _ in self.seeds)
        to_voxels = np.linalg.inv(scan.affine)
        points: dict[int, list[tuple[float, ...]]] = {}
        for value, point, in_mm in self.seeds:
            place = to_voxels[:3, :3] @ point + to_voxels[:3, 3] if in_mm else np.asarray(point)
            points.setdefault(table.values.index(value), []).append(tuple(place.tolist()))
        labels = self.options.grow(scan, points)
        grown = int((labels > 0).sum())
        reachable = int(labels.size if scan.mask is None else scan.mask.sum())
        leak = _leak(grown, reachable)
        print(f"{title}: {grown} voxels{leak}", flush=True)
        if leak and self.masks is None:
            self.doubtful[name] = f"{grown} voxels{leak}"
        return Segmentation(table.to_values(labels), scan.affine)


def read_seed(text: str) -> tuple[int, tuple[float, float, float], bool]:
    """Label value, point, and whether the point is in RAS+ mm rather than voxels.

    >>> read_seed("10,20,5")
    (1, (10.0, 20.0, 5.0), False)
    >>> read_seed("2:-10.5,20,5mm")
    (2, (-10.5, 20.0, 5.0), True)

    Raises:
        OptionError: the text has another form.
    """
    from atlaseg.pipeline.errors import OptionError

    before, colon, after = text.rpartition(":")
    in_mm = after.endswith("mm")
    try:
        value = int(before) if colon else 1
        x, y, z = (float(part) for part in after.removesuffix("mm").split(","))
    except ValueError:
        value = 0
        x = y = z = 0.0
    if value < 1:
        raise OptionError(
            f"--seed {text}: write x,y,z in voxels, x,y,zmm in RAS+ mm, or VALUE:x,y,z with a label value of 1 or more"
        )
    return value, (x, y, z), in_mm


def seeded_methods() -> tuple[str, ...]:
    """Names of the classical methods that can grow from a person's seeds."""
    from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS

    return tuple(row.name for row in CLASSICAL_METHODS.rows() if row.kind == "seeded")


SEEDS = SeedSource()
