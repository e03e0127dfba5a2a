"""``atlaseg register``: register two scans; writes the transform, the warped scan, quality measures and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM
from atlaseg.pipeline.schema import Count, Positive, Seed, Whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from atlaseg.atlases.registration.register import Registration
    from atlaseg.atlases.registration.stage import Stage
    from atlaseg.atlases.registration.transforms.transform import Transform

__all__ = ["Register"]

#: Options that mean nothing to a transform through landmarks.
_WITHOUT_POINTS = (
    "engine",
    "initial",
    "metric",
    "iterations",
    "different_modality",
    "fixed_mask",
    "moving_mask",
)


@dataclass(frozen=True)
class Register:
    """Register MOVING to FIXED: atlaseg register FIXED MOVING --out DIR.

    DIR gets the transform (fixed -> moving points, as ITK, ANTs and elastix have it; read by 3D Slicer too),
    warped.nii.gz on the grid of FIXED, quality.json and registration.png. Options that are not given are chosen
    from the data.
    """

    positional: ClassVar[tuple[str, ...]] = ("fixed", "moving")

    fixed: Path
    """Fixed scan (.nii, .nii.gz)."""
    moving: Path
    """Moving scan, which is registered to the fixed one."""
    out: Path
    """Folder for the results."""
    transform: Literal["rigid", "similarity", "affine", "bspline", "syn", "deformable", "tps"] = (
        DEFAULT_TRANSFORM
    )
    """Type of transform; preceding ones (rigid before affine, ...) are run first. tps interpolates landmarks."""
    engine: str = "auto"
    """What registers, as `atlaseg methods --kind engine` lists; auto: the one that suits the transform."""
    initial: str = "auto"
    """Initialisation: auto, identity, centres, centres-of-mass, moments, or a transform file."""
    metric: Literal["ssd", "mi", "ncc", "lncc"] | None = None
    """Similarity metric of the last stage: squared differences, mutual information, global or local correlation."""
    grid_spacing: Positive | None = None
    """Spacing of the control points of a B-spline, mm."""
    iterations: tuple[Whole, ...] | None = None
    """Iterations of the last stage, one number per resolution level, coarse to fine."""
    different_modality: bool = False
    """The scans are of different modalities or sequences (CT and MRI, T1 and T2)."""
    fixed_mask: Path | None = None
    """Mask in which the similarity is computed, on the grid of FIXED."""
    moving_mask: Path | None = None
    """Mask on the grid of MOVING."""
    fixed_landmarks: Path | None = None
    """Points for tps: 3D Slicer's .mrk.json or .fcsv, or .csv with x, y, z in RAS mm."""
    moving_landmarks: Path | None = None
    """The corresponding points of MOVING: of the same names where both files have names, or in the same order."""
    format: Literal["h5", "tfm", "nii.gz", "mat"] | None = None
    """Format of the transform file; by default tfm for rigid to affine, h5 for the others."""
    channel: Whole = 0
    """Channel to register, for multi-channel scans."""
    seed: Seed = 0
    """Random seed."""
    threads: Count = 1
    """Maximum number of threads."""

    def run(self) -> int:
        """Register and write; returns 0.

        Raises:
            AtlasegError: a file cannot be read, options do not fit together, or the engine gave up.
        """
        self._check_options()
        stages, initial = self._stages(), self._initial()
        self._check_format(initial)
        self._check_out()
        with self._folder():
            self._write(self._registered(stages, initial))
        return 0

    def _registered(self, stages: Sequence[Stage], initial: str | Transform) -> Registration:
        from atlaseg.atlases.registration.register import register

        fixed_landmarks, moving_landmarks = self._landmarks()
        return register(
            self.fixed,
            self.moving,
            stages,
            engine=self.engine,
            fixed_mask=self.fixed_mask,
            moving_mask=self.moving_mask,
            fixed_landmarks=fixed_landmarks,
            moving_landmarks=moving_landmarks,
            initial=initial,
            same_modality=not self.different_modality,
            channel=self.channel,
            seed=self.seed,
            threads=self.threads,
        )

    def _landmarks(self) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None]:
        """Corresponding points of both scans, if both are given; says on the screen what paired them."""
        from atlaseg.atlases.registration.points.landmark_pairs import pair_landmarks
        from atlaseg.atlases.registration.points.landmarks import read_landmark_file
        from atlaseg.pipeline.errors import OptionError

        if self.fixed_landmarks is None or self.moving_landmarks is None:
            return None, None
        files = self.fixed_landmarks, self.moving_landmarks
        try:
            pairs = pair_landmarks(*map(read_landmark_file, files))
        except OptionError as error:
            raise OptionError(f"{files[0]}, {files[1]}: {error}") from error
        print(pairs)
        return pairs.fixed, pairs.moving

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """Create the folder for the results before the registration; remove it again if that fails."""
        new = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            for folder in new:
                if not any(folder.iterdir()):
                    folder.rmdir()

    def _stages(self) -> tuple[Stage, ...]:
        from atlaseg.atlases.registration.register import with_choices
        from atlaseg.atlases.registration.stage import stages_of

        return with_choices(
            stages_of(self.transform),
            metric=self.metric,
            grid_spacing_mm=self.grid_spacing,
            iterations=self.iterations,
        )

    def _initial(self) -> str | Transform:
        from atlaseg.atlases.registration.initialisation import INITIALISATIONS
        from atlaseg.atlases.registration.transforms.transform_files import TRANSFORM_SUFFIXES, read_transform
        from atlaseg.pipeline.errors import OptionError

        if self.initial in INITIALISATIONS:
            return self.initial
        if not self.initial.lower().endswith(TRANSFORM_SUFFIXES):
            raise OptionError(
                f"--initial {self.initial}: neither a beginning ({', '.join(INITIALISATIONS)}) nor a transform file "
                f"({', '.join(TRANSFORM_SUFFIXES)})"
            )
        return read_transform(Path(self.initial))

    def _check_options(self) -> None:
        """Refuse options that the transform does not use."""
        from atlaseg.pipeline.errors import OptionError

        if self.grid_spacing is not None and self.transform != "bspline":
            raise OptionError(
                f"--grid-spacing belongs to --transform bspline, {self.transform} has no grid; leave it out"
            )
        if self.transform != "tps":
            for option in ("fixed_landmarks", "moving_landmarks"):
                if getattr(self, option) is not None:
                    raise OptionError(
                        f"{_flag(option)} belongs to --transform tps, {self.transform} does not look at points; "
                        "leave it out"
                    )
            return
        for field in fields(self):
            if field.name in _WITHOUT_POINTS and getattr(self, field.name) != field.default:
                raise OptionError(f"tps goes through its landmarks alone; leave out {_flag(field.name)}")

    def _check_format(self, initial: str | Transform) -> None:
        """Refuse a file format that cannot store the type of transform."""
        from atlaseg.atlases.registration.stage import LINEAR
        from atlaseg.pipeline.errors import OptionError

        bends = self.transform not in LINEAR or not (isinstance(initial, str) or initial.is_linear)
        if self.format == "mat" and bends:
            what = self.transform if self.transform not in LINEAR else f"{self.initial}, the beginning,"
            raise OptionError(f"--format mat holds linear transforms only, {what} bends; choose h5 or nii.gz")

    def _check_out(self) -> None:
        """Refuse an output folder that cannot be written, or whose results would replace or be mistaken for data."""
        from atlaseg.pipeline.errors import OptionError

        for folder in (self.out, *self.out.parents):
            if folder.exists() and not folder.is_dir():
                raise OptionError(
                    f"--out {self.out}: {folder} is a file, results need a folder; choose another"
                )
        for scan in (self.fixed, self.moving):
            if scan.absolute().parent.resolve() == self.out.resolve():
                raise OptionError(
                    f"--out {self.out}: the folder of {scan.name}; results among scans would be taken for scans, "
                    "choose another"
                )
        results = {self._transform_file(kind).resolve() for kind in ("tfm", "h5", "mat", "nii.gz")}
        results |= {
            (self.out / name).resolve() for name in ("warped.nii.gz", "quality.json", "registration.png")
        }
        for given in (
            self.fixed_mask,
            self.moving_mask,
            self.fixed_landmarks,
            self.moving_landmarks,
            self.initial,
        ):
            if given is not None and Path(given).resolve() in results:
                raise OptionError(f"--out {self.out}: a result would replace {given}; choose another folder")

    def _transform_file(self, kind: str) -> Path:
        return self.out / f"transform.{kind}"

    def _write(self, found: Registration) -> None:
        from atlaseg.atlases.registration.intensity_scale import rescale_itk
        from atlaseg.atlases.registration.registration_picture import draw_registration
        from atlaseg.atlases.registration.transforms.frames import from_itk, read_itk
        from atlaseg.atlases.registration.transforms.resampling import resample_image
        from atlaseg.atlases.registration.transforms.transform import Transform
        from atlaseg.atlases.registration.transforms.transform_files import write_transform
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.pipeline.io.volume import write_image

        fixed, moving = (read_itk(path, self.channel) for path in (self.fixed, self.moving))
        kind = self.format or ("tfm" if found.transform.is_linear else "h5")
        transform_file = self._transform_file(kind)
        write_transform(transform_file, found.transform, fixed)
        warped = from_itk(resample_image(moving, fixed, found.transform))[0]
        write_image(self.out / "warped.nii.gz", warped, self.fixed)
        figures = self._figures(found)
        write_text(self.out / "quality.json", json.dumps(figures, indent=1) + "\n")
        scaled = rescale_itk(moving)
        draw_registration(
            self.out / "registration.png",
            from_itk(rescale_itk(fixed))[0],
            from_itk(resample_image(scaled, fixed, found.transform))[0],
            from_itk(resample_image(scaled, fixed, Transform.identity()))[0],
            fixed.GetSpacing(),
        )
        print(f"Registered by {found.engine} in {found.seconds:.1f} s: {_sentence(figures)}")
        print(f"Wrote {transform_file}, warped.nii.gz, quality.json; look at {self.out / 'registration.png'}")

    def _figures(self, found: Registration) -> dict[str, Any]:
        """Quality measures before and after registration, and the settings used."""
        from atlaseg.atlases.propagation import similarity
        from atlaseg.atlases.propagation.quality import coverage
        from atlaseg.atlases.registration.transforms.frames import read_itk
        from atlaseg.atlases.registration.transforms.jacobian import jacobian_statistics
        from atlaseg.atlases.registration.transforms.resampling import resample_image, seen
        from atlaseg.atlases.registration.transforms.transform import Transform

        fixed, moving = (read_itk(path, self.channel) for path in (self.fixed, self.moving))
        moving = _with_air(moving)
        target = _array(_with_air(fixed))
        figures: dict[str, Any] = {}
        for name, transform in (("before", Transform.identity()), ("after", found.transform)):
            inside = _array(seen(moving, fixed, transform)) > 0
            warped = _array(resample_image(moving, fixed, transform))
            figures[name] = {"coverage": coverage(inside)}
            if inside.any() and warped.min() < warped.max():
                for figure in ("correlation", "local_correlation", "mutual_information"):
                    figures[name][figure] = getattr(similarity, figure)(target, warped, inside)
        figures["jacobian"] = asdict(jacobian_statistics(found.transform, fixed))
        figures["engine"], figures["seconds"] = found.engine, round(found.seconds, 2)
        figures["stages"] = [asdict(stage) for stage in found.stages]
        return figures


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _with_air(image: Any) -> Any:
    """CT scans with air where the scanner filled in a value around its field of view, which would bias all measures."""
    from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
    from atlaseg.pipeline.datasets.modality import air_for_filling

    voxels, affine = from_itk(image)
    return to_itk(air_for_filling(voxels), affine)


def _array(image: Any) -> npt.NDArray[np.float64]:
    from atlaseg.atlases.registration.transforms.frames import from_itk

    return from_itk(image)[0]


def _sentence(figures: dict[str, Any]) -> str:
    def of(name: str) -> str:
        value = figures[name].get("correlation")
        return "no overlap" if value is None else f"{value:.3f}"

    folding = 100 * figures["jacobian"]["folding_fraction"]
    return f"correlation {of('before')} before, {of('after')} after, {folding:.2g} % of voxels fold"
