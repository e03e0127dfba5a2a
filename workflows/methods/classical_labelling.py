"""The part of ``atlaseg segment`` for classical methods: a run of one, or seeds without any run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["ClassicalLabeller", "SeedLabeller", "read_seed"]

#: Regions that fill more than this part of a scan are told of: no structure does, but air and bright scans do.
MOST_OF_SCAN = 0.5


class ClassicalLabeller:
    """Labels scans with a run of a classical method.

    Args:
        run: folder that `atlaseg train` wrote.
        masks: a mask, or a folder of masks with the names of the scans.
        probabilities: whether labels come with probabilities.

    Raises:
        AtlasegError: the run cannot be opened.
        OptionError: there is no such mask, or the run needs masks.
    """

    def __init__(self, run: Path, *, masks: Path | None, probabilities: bool) -> None:
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
        from atlaseg.pipeline.errors import OptionError

        refuse_missing(masks)
        self.masks, self.probabilities = masks, probabilities
        self._segmenter = ClassicalSegmenter.load(run)
        if self._segmenter.needs_masks and masks is None:
            raise OptionError(f"{run}: learnt inside masks, so scans need theirs: give --masks FOLDER")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def channels(self) -> int:
        """How many channels scans must have."""
        return len(self._segmenter.channels)

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan."""
        import time

        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.workflows.methods.atlas_labelling import mask_of

        begun = time.monotonic()
        image, mask = read_image(files), mask_of(self.masks, name, files[0])
        result = self._segmenter.segment(image, mask=mask, probabilities=self.probabilities)
        print(f"{title}: {time.monotonic() - begun:.1f} s", flush=True)
        return result

    def finish(self) -> None:
        """Nothing is kept from scan to scan."""


def _leak(grown: int, reachable: int) -> str:
    """What to say of a region that fills most of what it can reach."""
    if grown <= MOST_OF_SCAN * reachable:
        return ""
    return (
        f", {grown / reachable:.0%} of all: it has leaked into what surrounds it; try --option multiplier=1.5 (the "
        "default is 2.5), or --option homogeneity=neighbourhood with a --option tolerance that suits"
    )


class SeedLabeller:
    """Grows regions from seeds that a person gives, the same in every scan; nothing is learnt.

    Args:
        method: ``region-growing``.
        seeds: as :func:`read_seed` takes them.
        options: of the method, ``name=value``.
        masks: a mask, or a folder of masks with the names of the scans.
        probabilities: refused, since regions have none.

    Raises:
        OptionError: another method, no seed, or an option is not possible.
    """

    channels = 1

    def __init__(
        self,
        method: str | None,
        seeds: Sequence[str],
        options: Sequence[str],
        *,
        masks: Path | None,
        probabilities: bool,
    ) -> None:
        from atlaseg.pipeline.classical.registry import make_method, read_options
        from atlaseg.pipeline.errors import OptionError

        if method != "region-growing":
            raise OptionError(
                f"--method {method}: only region-growing goes without a run; name a run of atlaseg train"
                if method
                else "--seed: for --method region-growing only; name the method, or a run without seeds"
            )
        if not seeds:
            raise OptionError(
                "region-growing without a run needs --seed x,y,z: name a voxel of each structure"
            )
        if probabilities:
            raise OptionError("--probabilities: regions grown from seeds have none; leave it out")
        refuse_missing(masks)
        self.masks = masks
        self.seeds = [read_seed(text) for text in seeds]
        self.options: Any = make_method(method, read_options(method, options))
        #: What is to be said of scans whose result nobody should take as it is.
        self.doubtful: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan."""
        import numpy as np

        from atlaseg.pipeline.case import LabelTable
        from atlaseg.pipeline.classical.scan import Scan
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.segmenter import Segmentation
        from atlaseg.workflows.methods.atlas_labelling import mask_of

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

    def finish(self) -> None:
        """Nothing is kept from scan to scan."""


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


def refuse_missing(masks: Path | None) -> None:
    """Refuse a mask that is not there.

    Raises:
        OptionError: no such file or folder.
    """
    from atlaseg.pipeline.errors import OptionError

    if masks is not None and not masks.exists():
        raise OptionError(f"--masks {masks}: no such file or folder")
