"""``atlaseg fuse``: fuse several label maps of one scan into one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from atlaseg.atlases.fusion.registry import DEFAULT_WITHOUT_IMAGES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from atlaseg.atlases.fusion.candidates import Fused, FusionRule
    from atlaseg.atlases.fusion.registry import FusionRow
    from atlaseg.pipeline.case import LabelTable

__all__ = ["Fuse", "fuse_files", "rule_for"]


@dataclass(frozen=True)
class Fuse:
    """Fuse several label maps of one scan into one: atlaseg fuse LABELMAP... --out FILE.nii.gz.

    The label maps come from several atlases, raters or networks and lie on one grid; their values need not be
    consecutive, and background (0) is a label like any other. The result has the geometry of the first.
    """

    positional: ClassVar[tuple[str, ...]] = ("paths",)
    repeated: ClassVar[tuple[str, ...]] = ("option",)

    paths: tuple[Path, ...]
    """Two or more label maps (.nii or .nii.gz)."""
    out: Path
    """File for the result, .nii or .nii.gz; what a rule finds out of each label map goes beside it, in
    NAME.json."""
    method: str = DEFAULT_WITHOUT_IMAGES
    """A fusion rule (`atlaseg methods` lists them); those that compare intensities need --target and --images."""
    target: Path | None = None
    """The scan, on the grid of the label maps, for methods that compare intensities."""
    images: tuple[Path, ...] = ()
    """The warped image of each label map, in the same order and on the grid of the label maps."""
    option: tuple[str, ...] = ()
    """Option of the rule as name=value, such as search_radius=2,2,0; `atlaseg methods RULE` lists them; may be
    repeated. Distances follow the shape of the voxels unless a rule's spacing is given."""
    probabilities: bool = False
    """Also write NAME_probabilities.nii.gz, 4-D, one volume per label, background first."""

    def run(self) -> int:
        """Fuse and write; returns 0.

        Raises:
            OptionError: no such method or option, or what it needs is missing, or the result would replace an input.
            GeometryError: files lie on different grids.
            LabelError: a label map holds what is not a label.
            DatasetError: an image is constant or holds NaN or infinite voxels.
            MissingFileError, UnreadableFileError: a file is missing or broken.
        """
        from atlaseg.atlases.fusion.registry import read_options
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.pipeline.io.result_files import details_file, probabilities_file
        from atlaseg.pipeline.io.volume import write_label_map, write_probabilities

        options = read_options(self.method, self.option)
        rule_for(self.method, options)  # refuses what is not possible before files are read
        self._check()
        rule = rule_for(self.method, options, self.paths[0])
        table, fused = fuse_files(
            self.paths, rule, self.target, self.images, probabilities=self.probabilities
        )
        write_label_map(self.out, table.to_values(fused.labels), self.paths[0])
        if fused.probabilities is not None:
            write_probabilities(probabilities_file(self.out), fused.probabilities, self.paths[0])
        if fused.details is not None:
            write_text(details_file(self.out), self._report(table, fused.details))
        print(f"{len(self.paths)} label maps fused by {self.method}: {self.out}")
        return 0

    def _check(self) -> None:
        """Check the inputs before voxels are read."""
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.io.scan_names import SUFFIXES

        _refuse_too_few(self.paths)
        if not self.out.name.lower().endswith(SUFFIXES):
            raise OptionError(
                f"{self.out}: results are written as .nii or .nii.gz, choose such a name for --out"
            )
        self._check_images()
        inputs = [*self.paths, *self.images, *([] if self.target is None else [self.target])]
        if any(self.out.resolve() == path.resolve() for path in inputs):
            raise OptionError(f"{self.out}: the result would replace an input; choose another --out")
        _refuse_other_grids(inputs)

    def _row(self) -> FusionRow:
        from atlaseg.atlases.fusion.registry import FUSION_RULES

        return FUSION_RULES.find(self.method)

    def _check_images(self) -> None:
        from atlaseg.atlases.fusion.registry import FUSION_RULES
        from atlaseg.pipeline.errors import OptionError

        rows = FUSION_RULES.rows()
        if self._row().needs_images:
            if self.target is None or not self.images:
                raise OptionError(
                    f"{self.method} fusion compares intensities: name the scan with --target and the image of each "
                    f"label map with --images, or choose {_names(row for row in rows if not row.needs_images)}"
                )
            if len(self.images) != len(self.paths):
                raise OptionError(
                    f"{len(self.paths)} label maps but {len(self.images)} images: name one for each, in the same order"
                )
        elif self.target is not None or self.images:
            raise OptionError(
                f"{self.method} fusion does not look at images: leave out --target and --images, or choose "
                f"--method {_names(row for row in rows if row.needs_images)}"
            )

    def _report(self, table: LabelTable, details: dict[str, Any]) -> str:
        """JSON; what counts labels follows ``label_values``, what counts atlases ``label_maps``."""
        import json

        content = {
            "method": self.method,
            "label_values": list(table.values),
            "label_maps": [path.name for path in self.paths],
            **details,
        }
        return json.dumps(content, indent=1) + "\n"


def rule_for(name: str | None, options: Mapping[str, Any], label_map: Path | None = None) -> FusionRule:
    """A fusion rule by name; where it asks for the shape of voxels, that of a label map.

    Args:
        name: of the rule; ``None``: the one for label maps without images.
        options: of the rule, by name.
        label_map: one of those that are fused; ``None``: the rule's own default shape.

    Raises:
        OptionError: there is no such rule or option, or a value is not possible.
    """
    from atlaseg.atlases.fusion.registry import make_rule, option_names

    name = name or DEFAULT_WITHOUT_IMAGES
    if label_map is not None and "spacing" in option_names(name):
        options = {"spacing": _voxel_shape(label_map), **options}
    return make_rule(name, **options)


def fuse_files(
    paths: Sequence[Path],
    rule: FusionRule,
    target: Path | None = None,
    images: Sequence[Path] = (),
    *,
    probabilities: bool = False,
) -> tuple[LabelTable, Fused]:
    """Label maps of one scan joined into one.

    Args:
        paths: of the label maps, on one grid; two or more.
        rule: that joins them.
        target: the scan; used where there are images too.
        images: one for each label map, on its grid.
        probabilities: also make them.

    Returns:
        The table of all values that occur, and the result in channel indices.

    Raises:
        OptionError: too few label maps, or the rule needs images that are not there.
        GeometryError: files lie on different grids.
        LabelError: a label map holds what is not a label.
        DatasetError: an image is constant or holds NaN or infinite voxels.
        MissingFileError, UnreadableFileError: a file is missing or broken.
    """
    import numpy as np

    from atlaseg.atlases.fusion.candidates import Candidates

    _refuse_too_few(paths)
    _refuse_other_grids([*paths, *images, *([] if target is None else [target])])
    table, indices = _label_maps(paths)
    scan = warped = None
    if target is not None and images:
        scan = _scaled(target)
        parts = [_scaled(path) for path in images]
        _check_channels(target, scan, images, parts)
        warped = np.stack(parts)
    candidates = Candidates(indices, len(table), warped, scan)
    return table, rule.fuse(candidates, probabilities=probabilities)


def _refuse_too_few(paths: Sequence[Path]) -> None:
    from atlaseg.pipeline.errors import OptionError

    if len(paths) < 2:
        raise OptionError(f"fusing needs at least two label maps, found {len(paths)}")


def _refuse_other_grids(inputs: Sequence[Path]) -> None:
    """Refuse what cannot be fused before voxels are read."""
    from atlaseg.pipeline.errors import GeometryError, OptionError
    from atlaseg.pipeline.io.volume import grid_difference, read_header

    for path in inputs:
        if path.is_dir():
            raise OptionError(f"{path}: is a folder; name the label maps of one scan, file by file")
    first = read_header(inputs[0])
    for path in inputs[1:]:
        difference = grid_difference(first, read_header(path))
        if difference is not None:
            raise GeometryError(
                f"{path}: not on the grid of {inputs[0]} ({difference}); resample it onto that first"
            )


def _label_maps(paths: Sequence[Path]) -> tuple[LabelTable, npt.NDArray[Any]]:
    """The table of all values that occur, and channel indices ``(N, *spatial)``."""
    import numpy as np

    from atlaseg.pipeline.case import LabelTable, value_counts
    from atlaseg.pipeline.errors import LabelError
    from atlaseg.pipeline.io.volume import read_label_map

    maps = []
    values: set[int] = set()
    for path in paths:
        label_map = read_label_map(path)
        found = value_counts(label_map).keys()
        if min(found) < 0:
            raise LabelError(f"{path}: label values must be 0 (background) or more, found {min(found)}")
        values |= found
        # 64-bit integers of many maps at once would need eight times the memory
        maps.append(label_map.astype(np.min_scalar_type(max(found))))
    table = LabelTable.from_values(values)
    kind = np.min_scalar_type(len(table) - 1)
    return table, np.stack([table.to_indices(one).astype(kind) for one in maps])


def _names(rows: Iterable[FusionRow]) -> str:
    return " or ".join(row.name for row in rows)


def _voxel_shape(path: Path) -> tuple[float, float, float]:
    """Size of a voxel along each axis, in cube roots of its volume: 1, 1, 1 for cubes of any size.

    In mm, the steepness of the log-odds would depend on how small a voxel is, and was not chosen for that.
    """
    from math import prod

    from atlaseg.pipeline.io.volume import read_header

    x, y, z = read_header(path).spacing[:3]
    unit = prod((x, y, z)) ** (1 / 3)
    return x / unit, y / unit, z / unit


def _scaled(path: Path) -> npt.NDArray[np.float32]:
    """Image ``(C, *spatial)``, every channel in [0, 1]."""
    import numpy as np

    from atlaseg.atlases.registration.intensity_scale import rescale
    from atlaseg.pipeline.io.volume import read_header, read_voxels

    header = read_header(path)
    channels = read_voxels(path).reshape(*header.spatial_shape, -1)
    return np.stack([rescale(channels[..., c], name=str(path)) for c in range(channels.shape[-1])])


def _check_channels(
    target_path: Path,
    target: npt.NDArray[np.float32],
    paths: Sequence[Path],
    images: Sequence[npt.NDArray[np.float32]],
) -> None:
    from atlaseg.pipeline.errors import GeometryError

    for path, image in zip(paths, images, strict=True):
        if len(image) != len(target):
            raise GeometryError(
                f"{path}: has {len(image)} channel(s), the scan {target_path} has {len(target)}; give the same"
            )
