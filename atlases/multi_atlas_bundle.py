"""The bundle folder of a multi-atlas segmenter: settings as data, and a copy of the atlases.

::

    RUN/configs/metadata.json    MONAI's description of the bundle
    RUN/configs/atlases.json     fusion and registration; written last, so that half a folder is not taken for one
    RUN/correction.npz           numbers of the correction, where one was learnt
    RUN/atlases/                 images, labels, masks, landmarks and their manifest

:mod:`atlaseg.atlases.atlas_folder` and :mod:`atlaseg.atlases.correction.correction` write the last two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.correction.correction import Correction
from atlaseg.atlases.fusion.candidates import FusionRule
from atlaseg.atlases.fusion.registry import FUSION_RULES, make_rule
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.pipeline.errors import MissingFileError, OptionError, PlanError, UnreadableFileError
from atlaseg.pipeline.io.files import read_json, write_text
from atlaseg.pipeline.slice_borders import SliceBorder, borders_from_plain, plain_borders

__all__ = [
    "SETTINGS",
    "MultiAtlasSettings",
    "is_atlas_bundle",
    "read_bundle",
    "read_settings",
    "write_bundle",
]

SETTINGS = Path("configs") / "atlases.json"
CORRECTION = "correction.npz"
FORMAT = "atlaseg multi-atlas segmenter"
VERSION = 1


@dataclass(frozen=True)
class MultiAtlasSettings:
    """Settings of a multi-atlas segmenter: registration and fusion.

    Args:
        fusion: name of the rule in :data:`atlaseg.atlases.fusion.registry.FUSION_RULES`.
        rule: the rule with its options.
        propagation: selection, registration and quality control.
    """

    fusion: str
    rule: FusionRule
    propagation: PropagationOptions

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, every option spelled out, so that a change of a default changes no saved run."""
        rule: Any = self.rule
        options = {field.name: getattr(rule, field.name) for field in fields(rule) if field.init}
        return {
            "fusion": self.fusion,
            "fusion_options": options,
            "propagation": asdict(self.propagation),
        }


def is_atlas_bundle(folder: Path) -> bool:
    """Whether a folder is one that :func:`write_bundle` has finished."""
    return (folder / SETTINGS).is_file()


def write_bundle(
    folder: Path,
    settings: MultiAtlasSettings,
    atlases: AtlasSet,
    correction: Correction | None = None,
    borders: Sequence[SliceBorder] = (),
    *,
    executor: Executor | None = None,
) -> None:
    """Write a self-contained bundle folder, which may be carried to another machine.

    Args:
        folder: made if it is not there.
        settings: how to segment.
        atlases: are copied.
        correction: of the fused votes, if one was learnt.
        borders: that raters drew along a slice.
        executor: copies them in parallel.

    Raises:
        DatasetError: the folder holds atlases of another set.
        AtlasegError: an atlas is not readable.
        OSError: the folder cannot be written.
    """
    (folder / SETTINGS).unlink(missing_ok=True)
    atlases.save(folder / "atlases", executor=executor)
    write_text(
        folder / "configs" / "metadata.json", json.dumps(_metadata(settings, atlases), indent=2) + "\n"
    )
    if correction is None:
        (folder / CORRECTION).unlink(missing_ok=True)
    else:
        correction.save(folder / CORRECTION)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "corrected": correction is not None,
        "slice_borders": plain_borders(borders),
        **settings.as_dict(),
    }
    write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


def _metadata(settings: MultiAtlasSettings, atlases: AtlasSet) -> dict[str, Any]:
    from atlaseg.pipeline.bundle import metadata_without_network

    return metadata_without_network(
        f"{settings.fusion} fusion of {len(atlases)} atlases of {atlases.name} by atlaseg {version('atlaseg')}",
        atlases.channels,
        atlases.labels.names,
        ("atlaseg", "nibabel", "SimpleITK", "itk-elastix", "antspyx"),
    )


def read_bundle(
    folder: Path,
) -> tuple[MultiAtlasSettings, AtlasSet, Correction | None, tuple[SliceBorder, ...]]:
    """Settings, atlases, correction and slice borders of a bundle folder, all checked; nothing in the folder is run.

    Raises:
        MissingFileError: the folder is not such a bundle, or lacks a file.
        PlanError: the settings do not follow their schema.
        DatasetError, UnreadableFileError: as :func:`atlaseg.atlases.atlas_folder.load_atlases`.
        OptionError: a setting's value is not possible, or its engine is not installed.
    """
    settings, atlases = read_settings(folder), AtlasSet.load(folder / "atlases")
    content = read_json(folder / SETTINGS)
    borders = borders_from_plain(
        content.get("slice_borders", []), len(atlases.labels), str(folder / SETTINGS)
    )
    if not content.get("corrected", False):
        return settings, atlases, None, borders
    correction = Correction.load(folder / CORRECTION)
    if (correction.classes, correction.channels) != (len(atlases.labels), len(atlases.channels)):
        raise UnreadableFileError(
            f"{folder / CORRECTION}: learnt with {correction.classes} classes and {correction.channels} channel(s), "
            f"the atlases have {len(atlases.labels)} and {len(atlases.channels)}; train again"
        )
    return settings, atlases, correction, borders


def read_settings(folder: Path) -> MultiAtlasSettings:
    """Settings of a bundle folder; errors as :func:`read_bundle`."""
    from atlaseg.pipeline.schema import build_checked

    path = folder / SETTINGS
    if not path.is_file():
        raise MissingFileError(f"{folder}: not a run of an atlas method (it has no {SETTINGS.as_posix()})")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PlanError(f"{path}: not the settings of a multi-atlas segmenter; expected format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise PlanError(
            f"{path}: version {content.get('version')!r}, this atlaseg reads {VERSION}; update it"
        )
    known = ("format", "version", "corrected", "slice_borders", "fusion", "fusion_options", "propagation")
    if unknown := sorted(set(content) - set(known)):
        raise PlanError(f"{path}: {unknown[0]}: no such entry; known are {', '.join(known)}")
    fusion = content.get("fusion")
    if not isinstance(fusion, str) or fusion not in FUSION_RULES:
        raise PlanError(
            f"{path}: fusion: expected one of {', '.join(FUSION_RULES.names())}, found {fusion!r}"
        )
    for name in ("fusion_options", "propagation"):
        if not isinstance(content.get(name), dict):
            raise PlanError(f"{path}: {name}: expected a mapping, found {content.get(name)!r}")
    try:
        rule = build_checked(type(make_rule(fusion)), content["fusion_options"], "fusion_options")
        options = build_checked(PropagationOptions, content["propagation"], "propagation")
        options.steps()  # refuses what no engine on this machine has
    except (PlanError, OptionError) as error:
        raise type(error)(f"{path}: {error}") from error
    return MultiAtlasSettings(FUSION_RULES.find(fusion).name, rule, options)
