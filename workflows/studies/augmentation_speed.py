"""Measure the time of augmentation compared with MONAI's, and draw examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.schema import Count

if TYPE_CHECKING:
    import torch

__all__ = ["AugmentationBenchmark", "Timing"]

_OURS, _OURS_ON_A_PATCH, _CROP = "cut and deform out of a case", "deform a patch", "cut without deforming"
_MONAI = "MONAI Rand3DElasticd"
_SEED = 0


@dataclass(frozen=True)
class Timing:
    """Median time of one way to treat one patch.

    Args:
        name: what was done.
        milliseconds: of processor time per patch, which other programs on the machine hardly change; with one
            thread and nothing else running it is the time on the clock.
    """

    name: str
    milliseconds: float


@dataclass(frozen=True)
class AugmentationBenchmark:
    """Time rotation, scaling and elastic deformation of patches beside MONAI's, on one core.

    Image and label of the MNI152 template at 1 mm are deformed by the default augmentation, and by MONAI's
    Rand3DElasticd with the same rotation, scaling and about the same elastic displacement. The other changes of
    the default augmentation, which are MONAI's own, are timed too.

    Args:
        patch_size: voxels of the patches.
        repeats: patches per way; the median is shown.
        out: picture (PNG) of the same patch before and after deformation, with a grid.
    """

    patch_size: tuple[int, int, int] = (40, 56, 40)
    repeats: Count = 50
    out: Path | None = None

    def run(self) -> int:
        """Print the times, write the picture; returns the exit code.

        Raises:
            OptionError: a number is not positive.
        """
        if self.repeats < 1:
            raise OptionError(f"repeats must be at least 1, found {self.repeats}")
        with _one_thread():
            timings = self.timings()
        size = " x ".join(map(str, self.patch_size))
        print(
            f"processor ms per patch of {size} voxels, image and label, one thread, median of {self.repeats}"
        )
        baseline = next(t.milliseconds for t in timings if t.name == _MONAI)
        for timing in timings:
            ratio = f"{baseline / timing.milliseconds:6.1f} times as fast as MONAI"
            print(
                f"  {timing.name:<30} {timing.milliseconds:8.2f}  "
                f"{ratio if timing.name in (_OURS, _OURS_ON_A_PATCH) else ''}".rstrip()
            )
        if self.out is not None:
            self.draw(self.out)
            print(f"picture: {self.out}")
        return 0

    def timings(self) -> list[Timing]:
        """Times of deformation, MONAI's beside ours, then of each change of intensities."""
        image, label = _brain()
        ways = self._deformations(image, label) | self._intensities(image, label)
        return [Timing(name, ms) for name, ms in _medians(ways, self.repeats).items()]

    def _deformations(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, Callable[[], Any]]:
        from atlaseg.pipeline.planning.plan import Augmentation
        from atlaseg.pipeline.transforms.deformation import RandDeformd

        centre = [n // 2 for n in image.shape[1:]]
        deformer, cutter = self._cutter(1.0), self._cutter(0.0)
        patch: dict[Any, Any] = dict(
            zip(("image", "label"), cutter.sample(image, label, centre), strict=True)
        )
        options = _spatial_options(Augmentation())
        ours = RandDeformd(
            ("image", "label"),
            patch_size=self.patch_size,
            spacing=(1.0, 1.0, 1.0),
            probability=1.0,
            **options,
        ).set_random_state(_SEED)
        monai = _monai_elastic(options)
        return {
            _OURS: lambda: deformer.sample(image, label, centre),
            _OURS_ON_A_PATCH: lambda: ours(patch),
            _CROP: lambda: cutter.sample(image, label, centre),
            _MONAI: lambda: monai(patch),
        }

    def _intensities(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, Callable[[], Any]]:
        """Each change of intensities alone, certain to happen."""
        from atlaseg.pipeline.planning.plan import Augmentation
        from atlaseg.pipeline.transforms.random_intensity import intensity_augmentation

        kinds = [
            f.name
            for f in dataclasses.fields(Augmentation)
            if f.name.endswith("_probability") and f.name != "spatial_probability"
        ]
        off: dict[str, Any] = dict.fromkeys(kinds, 0.0)
        nothing = dataclasses.replace(Augmentation(), **off)
        settings: dict[str, dict[str, Any]] = {
            kind.removesuffix("_probability").replace("_", " "): {kind: 1.0} for kind in kinds
        }
        settings["mirroring of one axis"] = {"flip_axes": (0,)}
        patch, labels = self._cutter(0.0).sample(image, label, [n // 2 for n in image.shape[1:]])

        def way(changes: dict[str, Any]) -> Callable[[], Any]:
            transform = intensity_augmentation(dataclasses.replace(nothing, **changes))
            transform.set_random_state(_SEED)
            return lambda: transform({"image": patch, "label": labels})

        return {f"MONAI {name}": way(changes) for name, changes in settings.items()}

    def _cutter(self, probability: float) -> Any:
        from atlaseg.pipeline.planning.plan import Augmentation
        from atlaseg.pipeline.transforms.deformation import PatchDeformer

        options = _spatial_options(Augmentation())
        cutter = PatchDeformer(self.patch_size, (1.0, 1.0, 1.0), probability=probability, **options)
        return cutter.set_random_state(_SEED)

    def draw(self, path: Path) -> None:
        """Write the picture: above the patch as it is, below deformed; slices through the patch's middle.

        Lines are the source's voxel grid, every fourth voxel, as the deformation moves it; outlines are labels.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from atlaseg.pipeline.io.files import replacing

        image, label = _brain()
        centre = [n // 2 for n in image.shape[1:]]
        figure = Figure(figsize=(10, 7), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(2, 3)
        for row, probability, title in zip(rows, (0.0, 1.0), ("as it is", "deformed"), strict=True):
            patch, labels = self._cutter(probability).sample(image, label, centre)
            places = self._places(probability, centre)
            for axis, panel in enumerate(row):
                _draw_slice(panel, patch[0], labels[0], places, axis)
                panel.set_title(f"{title}, across axis {axis}", fontsize=9)
        with replacing(path, ".png") as temporary:
            figure.savefig(temporary, format="png", dpi=120)

    def _places(self, probability: float, centre: list[int]) -> torch.Tensor:
        """Source voxel ``(3, *patch)`` of each voxel of the patch that the same cutter makes."""
        import torch

        start = [c - n // 2 for c, n in zip(centre, self.patch_size, strict=True)]
        if probability == 0:
            axes = [torch.arange(n) + float(s) for n, s in zip(self.patch_size, start, strict=True)]
            return torch.stack(torch.meshgrid(*axes, indexing="ij"))
        cutter = self._cutter(probability)
        middle = [s + (n - 1) / 2 for s, n in zip(start, self.patch_size, strict=True)]
        places: torch.Tensor = cutter.coordinates([cutter.draw()], middle)[0]
        return places


def _draw_slice(
    panel: Any, image: torch.Tensor, label: torch.Tensor, places: torch.Tensor, axis: int
) -> None:
    """The middle slice across one axis, with the source's grid and the outlines of the labels."""
    import numpy as np

    middle = image.shape[axis] // 2
    panel.imshow(image.select(axis, middle).T, cmap="gray", origin="lower", vmin=0, vmax=1)
    for other in (a for a in range(3) if a != axis):
        place = places[other].select(axis, middle).T.numpy()
        levels = np.arange(4 * np.floor(place.min() / 4), place.max() + 4, 4)
        panel.contour(place, levels=levels, colors="deepskyblue", linewidths=0.6, alpha=0.8)
    for value in range(1, int(label.max()) + 1):
        outline = label.select(axis, middle).T.numpy() == value
        if outline.any() and not outline.all():
            panel.contour(outline, levels=[0.5], colors=[f"C{value}"], linewidths=1.0)
    panel.set_xticks([])
    panel.set_yticks([])


def _brain() -> tuple[torch.Tensor, torch.Tensor]:
    """Template ``(1, X, Y, Z)`` in 0..1 and its tissues ``(1, X, Y, Z)``: 0 outside, CSF, grey, white."""
    import numpy as np
    import torch

    from atlaseg.pipeline.synthetic.brain_template import load_brain_template

    template = load_brain_template()
    tissues = (template.tissues.argmax(axis=0) + 1) * (template.tissues.sum(axis=0) > 0.5)
    image = torch.from_numpy(np.ascontiguousarray(template.t1, dtype=np.float32))
    return image[None], torch.from_numpy(tissues.astype(np.uint8))[None]


def _spatial_options(augmentation: Any) -> dict[str, Any]:
    names = ("rotation_degrees", "scaling", "elastic_mm", "elastic_grid_mm")
    return {name: getattr(augmentation, name) for name in names}


def _monai_elastic(options: dict[str, float]) -> Any:
    """MONAI's transform of the same kind.

    Its displacement is uniform noise smoothed by a Gaussian of 5 to 7 voxels, about as smooth as a lattice of
    12 mm; magnitudes of 200 to 300 give it a deviation of about 1.5 voxels.
    """
    from math import radians

    from monai.transforms import Rand3DElasticd

    transform = Rand3DElasticd(
        ("image", "label"),
        sigma_range=(5, 7),
        magnitude_range=(200, 300),
        prob=1.0,
        rotate_range=(radians(options["rotation_degrees"]),) * 3,
        scale_range=(options["scaling"],) * 3,
        mode=("bilinear", "nearest"),
        padding_mode="reflection",
    )
    return transform.set_random_state(_SEED)


def _medians(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Milliseconds of each way; the ways take turns, so that what else the machine does falls on all alike."""
    from statistics import median
    from time import process_time

    for way in ways.values():  # the first call pays for caches and imports
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = process_time()
            way()
            times[name].append(1e3 * (process_time() - start))
    return {name: median(values) for name, values in times.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one core, as before when the block ends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
