"""``atlaseg warp``: apply transforms to images, label maps and points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import SimpleITK as sitk

    from atlaseg.atlases.registration.points.point_set import Landmarks
    from atlaseg.atlases.registration.transforms.transform import Transform
    from atlaseg.pipeline.io.volume import Header

__all__ = ["Warp"]

#: What follows a file's name when its inverse is meant.
INVERSE = ":inverse"
#: An image that holds no more different values than this, all whole, may be a label map.
FEW_VALUES = 64
#: Darker than this, an image is a CT, whose air is not 0.
DARKEST_WITHOUT_AIR = -200
#: Points named one by one in a message.
MOST_POINTS = 5


@dataclass(frozen=True)
class Warp:
    """Warp an image, a label map or points: atlaseg warp INPUT --transform FILE... --reference SCAN --out FILE.

    A transform maps points of the fixed image (the reference) to points of the moving image (the input), as in
    ITK, ANTs and elastix; so it warps IMAGES from moving to fixed, but POINTS from fixed to moving. To map
    points of the moving image to the fixed one, add --inverse.
    """

    positional: ClassVar[tuple[str, ...]] = ("input",)

    input: Path
    """Scan (.nii, .nii.gz; 4-D: every channel), label map (with --labels), or points (.mrk.json, .fcsv, .csv)."""
    transform: tuple[str, ...]
    """Files (.tfm, .h5, .mat, .nii.gz, elastix .txt); the first is applied first to the reference's points, which
    is also the order of ANTs' -t. FILE:inverse inverts one of them."""
    out: Path
    """Output file, on the grid of the reference and with its header. Points keep the labels of the input."""
    reference: Path | None = None
    """Scan that defines the grid of the output; not needed for points."""
    labels: bool = False
    """The input is a label map: interpolate without mixing label values."""
    interpolation: Literal["linear", "bspline", "sinc", "nearest", "gaussian"] | None = None
    """Images: linear (default), bspline, sinc, nearest. Label maps: nearest (default), gaussian (smoother)."""
    outside: float | None = None
    """Value of voxels outside the input image (default 0; -1000 for CT)."""
    inverse: bool = False
    """Apply the inverse of all transforms, in reverse order."""

    def run(self) -> int:
        """Write the result; returns 0.

        Raises:
            AtlasegError: a file cannot be read, options do not fit together, a transform has no inverse, or the
                input does not reach the reference at all.
        """
        from atlaseg.atlases.registration.points.landmarks import is_landmark_file

        points = is_landmark_file(self.input)
        self._check(points)
        self._check_out(points)
        said = self._warp_points() if points else self._warp_volume()
        print(f"{self.input.name} -> {self.out}{said}")
        return 0

    def _check(self, points: bool) -> None:
        """Refuse options that do not fit together, before anything is read."""
        from atlaseg.atlases.registration.transforms.resampling import LABEL_INTERPOLATIONS
        from atlaseg.pipeline.errors import OptionError

        if not self.transform:
            raise OptionError("name at least one file after --transform")
        if points and (self.labels or self.interpolation or self.outside is not None):
            raise OptionError(
                f"{self.input}: these are points; leave out --labels, --interpolation and --outside"
            )
        if points:
            return
        if self.reference is None:
            raise OptionError("give the scan that defines the grid of the output, by --reference")
        if self.interpolation == "gaussian" and not self.labels:
            raise OptionError("--interpolation gaussian is for label maps: add --labels")
        if self.labels and self.interpolation not in (None, *LABEL_INTERPOLATIONS):
            raise OptionError(
                f"no interpolation {self.interpolation!r} for label maps; choose one of "
                f"{', '.join(LABEL_INTERPOLATIONS)}"
            )
        if self.labels and self.outside is not None:
            raise OptionError("--outside is for images: label maps get 0 where the input has nothing")

    def _check_out(self, points: bool) -> None:
        """Refuse an output file that cannot be written or would replace an input."""
        from atlaseg.atlases.registration.points.landmarks import check_landmark_name
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.io.scan_names import suffix_of

        used = [self.input, self.reference, *(Path(name.removesuffix(INVERSE)) for name in self.transform)]
        for file in used:
            if file is not None and _same(file, self.out):
                raise OptionError(f"{self.out}: the result would replace the {file.name} it is made from")
        if points:
            check_landmark_name(self.out)
        elif not suffix_of(self.out):
            raise OptionError(f"{self.out}: results are written as .nii or .nii.gz, choose such a name")
        if self.out.is_dir():
            raise OptionError(f"{self.out}: this is a folder; name a file for the result")
        folder = next((parent for parent in self.out.parents if parent.exists()), None)
        if folder is not None and not folder.is_dir():
            raise OptionError(f"{self.out}: {folder} is a file, where a folder for the result should be")

    def _steps(self) -> list[tuple[Path, Transform, bool]]:
        """Each file's transform, and whether it is taken backwards, in the order in which they are applied."""
        from atlaseg.atlases.registration.transforms.transform_files import read_transform

        steps = [
            (Path(name.removesuffix(INVERSE)), name.endswith(INVERSE) != self.inverse)
            for name in (reversed(self.transform) if self.inverse else self.transform)
        ]
        return [(path, read_transform(path), backwards) for path, backwards in steps]

    def _warp_points(self) -> str:
        from dataclasses import replace

        from atlaseg.atlases.registration.points.landmarks import read_landmark_file, write_landmarks
        from atlaseg.atlases.registration.transforms.domains import outside

        landmarks = read_landmark_file(self.input)
        points, still = landmarks.points, 0
        for path, transform, backwards in self._steps():
            still += int(outside(transform, points).sum())
            points = _back(path, transform, landmarks, points) if backwards else transform.points(points)
        said = ""
        if landmarks.labels and _is_table(self.out) and not _is_table(self.input):
            # programs that read plain tables expect three numbers on a line
            landmarks, said = (
                replace(landmarks, labels=()),
                "; without labels, which .fcsv and .mrk.json keep",
            )
        write_landmarks(self.out, replace(landmarks, points=points))
        if still:
            said += f"; {still} of {len(points)} points lie outside the grid of a transform, which moves nothing there"
        return said

    def _warp_volume(self) -> str:
        from atlaseg.atlases.registration.transforms.displacement import empty_grid
        from atlaseg.atlases.registration.transforms.resampling import seen
        from atlaseg.atlases.registration.transforms.transform import Transform
        from atlaseg.pipeline.errors import GeometryError
        from atlaseg.pipeline.io.volume import read_header

        reference = Path(self.reference or "")
        fixed, moving = read_header(reference), read_header(self.input)
        _check_axes(moving)
        transform = Transform.compose([_inverted(path, t) if back else t for path, t, back in self._steps()])
        grid = empty_grid(fixed.spatial_shape, fixed.affine)
        covered = _share(seen(empty_grid(moving.spatial_shape, moving.affine), grid, transform))
        if not covered:
            raise GeometryError(
                f"{self.input}: no voxel of {reference.name} lies in it after these transforms; are they in the right "
                f"order, or does one need {INVERSE}?"
            )
        if self.labels:
            self._warp_labels(transform, grid, reference, moving)
            return ""
        return self._warp_image(transform, grid, reference, moving, covered)

    def _warp_image(
        self, transform: Transform, grid: sitk.Image, reference: Path, header: Header, covered: float
    ) -> str:
        import numpy as np

        from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
        from atlaseg.atlases.registration.transforms.resampling import resample_image
        from atlaseg.pipeline.io.volume import read_voxels, write_image

        voxels = read_voxels(self.input, header).reshape(*header.spatial_shape, -1)
        kind: Any = self.interpolation or "linear"
        if kind != "nearest" and header.channels == 1:
            _warn_of_labels(self.input, voxels)
        channels = []
        for channel in range(header.channels):
            image = to_itk(voxels[..., channel].astype(np.float32), header.affine)
            channels.append(from_itk(resample_image(image, grid, transform, kind, self.outside or 0.0))[0])
        series = self.input if len(header.shape) == 4 else None
        result = channels[0] if header.channels == 1 else np.stack(channels)
        write_image(self.out, result, reference, series)
        if covered == 1 or self.outside is not None:
            return ""
        darkest = float(np.nanmin(voxels)) if np.isfinite(voxels).any() else 0.0
        advice = "; the air of a CT is -1000: --outside -1000" if darkest < DARKEST_WITHOUT_AIR else ""
        return f"; it does not reach {1 - covered:.0%} of the voxels, which got 0 (--outside){advice}"

    def _warp_labels(self, transform: Transform, grid: sitk.Image, reference: Path, header: Header) -> None:
        from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
        from atlaseg.atlases.registration.transforms.resampling import resample_labels
        from atlaseg.pipeline.io.volume import read_label_map, write_label_map

        labels = read_label_map(self.input, header)
        image = to_itk(labels.astype(_label_type(labels, header.dtype)), header.affine)
        kind: Any = self.interpolation or "nearest"
        write_label_map(self.out, from_itk(resample_labels(image, grid, transform, kind))[0], reference)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _same(file: Path, other: Path) -> bool:
    """Whether two paths are one file that is there, through links too."""
    return file.exists() and other.exists() and file.samefile(other)


def _check_axes(header: Header) -> None:
    """Refuse images whose voxels are vectors or more than four-dimensional."""
    from atlaseg.atlases.registration.transforms.displacement_files import is_field_of_vectors
    from atlaseg.pipeline.errors import OptionError

    if len([n for n in header.shape[3:] if n > 1]) > 1:
        raise OptionError(
            f"{header.path}: expected an image of up to four dimensions, found {header.shape}; write its volumes to "
            "separate files"
        )
    if len(header.shape) == 5 and is_field_of_vectors(header.path):
        raise OptionError(
            f"{header.path}: a field of vectors, which would have to be turned with the space they lie in; to apply "
            "it, name it after --transform"
        )


def _inverted(path: Path, transform: Transform) -> Transform:
    """Inverse all over the grid of a transform, as images need it."""
    from atlaseg.atlases.registration.transforms.inversion import invert
    from atlaseg.pipeline.errors import GeometryError

    try:
        inverse = invert(transform)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    if not transform.is_linear:
        print(
            f"inverse of {path.name}: up to {inverse.error_mm:.2g} mm off, {inverse.mean_error_mm:.2g} mm on average"
        )
    return inverse.transform


def _back(
    path: Path, transform: Transform, landmarks: Landmarks, points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Points that the transform of a file carries to these.

    Raises:
        GeometryError: there is none, or more than one, because the transform folds.
    """
    from atlaseg.atlases.registration.transforms.point_inversion import invert_points
    from atlaseg.pipeline.errors import GeometryError

    inverse = invert_points(transform, points)
    for wrong, what in (
        (~inverse.found, "no point is carried there by the transform, or only from outside its grid"),
        (~inverse.unique, "the transform folds, and carries several points there"),
    ):
        numbers = wrong.nonzero()[0].tolist()
        if numbers:
            names = ", ".join(
                f"{landmarks.name_of(n)} at {', '.join(f'{v:.1f}' for v in points[n])} mm RAS"
                for n in numbers[:MOST_POINTS]
            )
            more = f" and {len(numbers) - MOST_POINTS} more" if len(numbers) > MOST_POINTS else ""
            raise GeometryError(f"{path}: the inverse does not exist at {names}{more}: {what}")
    if not transform.is_linear:
        off = float(inverse.error_mm.max())
        shown = f"up to {off:.2g} mm off" if off > 1e-3 else "less than 0.001 mm off"
        print(f"inverse of {path.name} at {len(points)} points: {shown}")
    return inverse.points


def _share(mask: sitk.Image) -> float:
    """Share of a mask's voxels that are not 0."""
    import numpy as np
    import SimpleITK as sitk

    return float(np.count_nonzero(sitk.GetArrayViewFromImage(mask)) / mask.GetNumberOfPixels())


def _warn_of_labels(path: Path, voxels: npt.NDArray[Any]) -> None:
    """Warn that an image may be a label map, whose values would be mixed."""
    import warnings

    import numpy as np

    from atlaseg.pipeline.errors import HeaderWarning

    if voxels.dtype.kind == "f" and not (np.isfinite(voxels).all() and (voxels == np.rint(voxels)).all()):
        return
    count = len(np.unique(voxels))
    if 1 < count <= FEW_VALUES:
        warnings.warn(
            f"{path}: taken for an image, though it holds only {count} values, all whole: if it is a label map, add "
            "--labels, or its values are mixed at borders",
            HeaderWarning,
            stacklevel=2,
        )


def _label_type(labels: npt.NDArray[np.int64], stored: np.dtype[Any]) -> np.dtype[Any]:
    """The file's own integer type, or the smallest that holds the labels where the file has another."""
    import numpy as np

    low, high = min(0, int(labels.min())), int(labels.max())
    for kind in (stored.newbyteorder("="), *map(np.dtype, (np.uint8, np.int16, np.int32))):
        if kind.kind in "iu" and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return np.dtype(np.int64)
