"""``atlaseg warp``: images, label maps and points carried through transforms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import SimpleITK as sitk

    from atlases.registration.transform import Transform

__all__ = ["Warp"]

#: What follows a file's name when its inverse is meant.
INVERSE = ":inverse"


@dataclass(frozen=True)
class Warp:
    """Carry an image, a label map or points: atlaseg warp INPUT --transform FILE... --reference SCAN --out FILE.

    A transform maps points of the fixed image (the reference) to points of the moving image (the input), as in
    ITK, ANTs and elastix; so it carries IMAGES from moving to fixed, but POINTS from fixed to moving. To bring
    points of the moving image to the fixed one, add --inverse.
    """

    positional: ClassVar[tuple[str, ...]] = ("input",)

    input: Path
    """Scan (.nii, .nii.gz; 4-D: every channel), label map (with --labels), or points (.mrk.json, .fcsv, .csv)."""
    transform: tuple[str, ...]
    """Files (.tfm, .h5, .mat, .nii.gz, elastix .txt); the first is applied first to the reference's points, which
    is also the order of ANTs' -t. FILE:inverse takes one of them backwards."""
    out: Path
    """Result; on the grid of the reference, with its header."""
    reference: Path | None = None
    """Scan whose grid the result gets; points need none."""
    labels: bool = False
    """The input is a label map: its values are kept as they are."""
    interpolation: Literal["linear", "bspline", "sinc", "nearest", "gaussian"] | None = None
    """Images: linear (default), bspline, sinc, nearest. Label maps: nearest (default), gaussian (smoother)."""
    outside: float = 0.0
    """Value of an image where the input has nothing."""
    inverse: bool = False
    """Take all transforms backwards, in the reverse order."""

    def run(self) -> int:
        """Write the result; returns 0.

        Raises:
            AtlasegError: a file cannot be read, options do not fit together, a transform has no inverse, or the
                input does not reach the reference at all.
        """
        from atlases.registration.landmarks import is_landmark_file

        points = is_landmark_file(self.input)
        self._check(points)
        transform = self._transform()
        if points:
            self._warp_points(transform)
        else:
            self._warp_volume(transform)
        print(f"{self.input.name} -> {self.out}")
        return 0

    def _check(self, points: bool) -> None:
        from pipeline.errors import OptionError

        if not self.transform:
            raise OptionError("name at least one file after --transform")
        for file in (self.input, self.reference):
            if file is not None and file.resolve() == self.out.resolve():
                raise OptionError(f"{self.out}: the result would replace the {file.name} it is made from")
        if points and (self.labels or self.interpolation):
            raise OptionError(f"{self.input}: these are points; leave out --labels and --interpolation")
        if not points and self.reference is None:
            raise OptionError("name the scan whose grid the result gets, by --reference")
        if not points and self.interpolation == "gaussian" and not self.labels:
            raise OptionError("--interpolation gaussian is for label maps: add --labels")

    def _transform(self) -> Transform:
        """All files as one transform."""
        from atlases.registration.transform import Transform

        steps = [
            (Path(name.removesuffix(INVERSE)), name.endswith(INVERSE) != self.inverse)
            for name in self.transform
        ]
        return Transform.compose([_read(*step) for step in (reversed(steps) if self.inverse else steps)])

    def _warp_points(self, transform: Transform) -> None:
        from atlases.registration.landmarks import read_landmarks, write_landmarks

        write_landmarks(self.out, transform.points(read_landmarks(self.input)))

    def _warp_volume(self, transform: Transform) -> None:
        from atlases.registration.displacement import empty_grid
        from atlases.registration.resampling import seen
        from pipeline.errors import GeometryError
        from pipeline.volume import read_header

        reference = Path(self.reference or "")
        fixed, moving = read_header(reference), read_header(self.input)
        grid = empty_grid(fixed.spatial_shape, fixed.affine)
        covered = seen(empty_grid(moving.spatial_shape, moving.affine), grid, transform)
        if not _any(covered):
            raise GeometryError(
                f"{self.input}: no voxel of {reference.name} lies in it after these transforms; are they in the right "
                f"order, or does one need {INVERSE}?"
            )
        (self._warp_labels if self.labels else self._warp_image)(transform, grid, reference)

    def _warp_image(self, transform: Transform, grid: sitk.Image, reference: Path) -> None:
        import numpy as np

        from atlases.registration.frames import from_itk, to_itk
        from atlases.registration.resampling import resample_image
        from pipeline.volume import read_header, read_voxels, write_image

        header = read_header(self.input)
        voxels = read_voxels(self.input).reshape(*header.spatial_shape, -1)
        kind: Any = self.interpolation or "linear"
        channels = []
        for channel in range(header.channels):
            image = to_itk(voxels[..., channel].astype(np.float32), header.affine)
            channels.append(from_itk(resample_image(image, grid, transform, kind, self.outside))[0])
        write_image(self.out, channels[0] if header.channels == 1 else np.stack(channels), reference)

    def _warp_labels(self, transform: Transform, grid: sitk.Image, reference: Path) -> None:
        from atlases.registration.frames import from_itk, to_itk
        from atlases.registration.resampling import resample_labels
        from pipeline.volume import read_header, read_label_map, write_label_map

        header, labels = read_header(self.input), read_label_map(self.input)
        image = to_itk(labels.astype(_label_type(labels, header.dtype)), header.affine)
        kind: Any = self.interpolation or "nearest"
        write_label_map(self.out, from_itk(resample_labels(image, grid, transform, kind))[0], reference)


def _read(path: Path, backwards: bool) -> Transform:
    from atlases.registration.inversion import invert
    from atlases.registration.transform_files import read_transform
    from pipeline.errors import GeometryError

    transform = read_transform(path)
    if not backwards:
        return transform
    try:
        inverse = invert(transform)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    if not transform.is_linear:
        print(
            f"inverse of {path.name}: up to {inverse.error_mm:.2g} mm off, {inverse.mean_error_mm:.2g} mm on average"
        )
    return inverse.transform


def _any(mask: sitk.Image) -> bool:
    import SimpleITK as sitk

    return bool(sitk.GetArrayViewFromImage(mask).any())


def _label_type(labels: npt.NDArray[np.int64], stored: np.dtype[Any]) -> np.dtype[Any]:
    """The file's own integer type, or the smallest that holds the labels where the file has another."""
    import numpy as np

    low, high = min(0, int(labels.min())), int(labels.max())
    for kind in (stored.newbyteorder("="), *map(np.dtype, (np.uint8, np.int16, np.int32))):
        if kind.kind in "iu" and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return np.dtype(np.int64)
