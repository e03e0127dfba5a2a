"""Segment 3-D medical scans with trained networks, registered atlases and classical methods.

What scripts need is here, and loaded when it is first used::

    import atlaseg

    segmenter = atlaseg.train("DATASET", "RUN", method="unet", minutes=60)
    result = segmenter.segment(atlaseg.read_image("scan.nii.gz"))
    result.save("labels.nii.gz", "scan.nii.gz")
"""

import os
import sys
from typing import TYPE_CHECKING, Any

# `python -m atlaseg` looks for modules in the current folder first, where anything may lie: a yaml.py would be run.
# Python calls a program "-m" while it is still looking for it, so nobody else's choice of paths is touched.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 (imports nothing)
    del sys.path[0]

if TYPE_CHECKING:
    from atlaseg.atlases.fusion.candidates import Candidates, Fused
    from atlaseg.atlases.registration.register import Registration, register
    from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.datasets import read_dataset
    from atlaseg.pipeline.errors import AtlasegError
    from atlaseg.pipeline.io.volume import read_image
    from atlaseg.pipeline.segmenter import Segmentation, Segmenter
    from atlaseg.workflows.inputs.scan_files import validation_scans
    from atlaseg.workflows.scripting import evaluate, fuse, load, make_phantom, train, warp

    __version__: str

__all__ = [
    "AtlasegError",
    "Candidates",
    "Dataset",
    "Fused",
    "Registration",
    "Segmentation",
    "Segmenter",
    "__version__",
    "evaluate",
    "fuse",
    "load",
    "make_phantom",
    "read_dataset",
    "read_image",
    "read_transform",
    "register",
    "train",
    "validation_scans",
    "warp",
    "write_transform",
]

#: Where each name lives.
_HOMES = {
    "AtlasegError": "atlaseg.pipeline.errors",
    "Candidates": "atlaseg.atlases.fusion.candidates",
    "Dataset": "atlaseg.pipeline.case",
    "Fused": "atlaseg.atlases.fusion.candidates",
    "Registration": "atlaseg.atlases.registration.register",
    "Segmentation": "atlaseg.pipeline.segmenter",
    "Segmenter": "atlaseg.pipeline.segmenter",
    "evaluate": "atlaseg.workflows.scripting",
    "fuse": "atlaseg.workflows.scripting",
    "load": "atlaseg.workflows.scripting",
    "make_phantom": "atlaseg.workflows.scripting",
    "read_dataset": "atlaseg.pipeline.datasets",
    "read_image": "atlaseg.pipeline.io.volume",
    "read_transform": "atlaseg.atlases.registration.transforms.transform_files",
    "register": "atlaseg.atlases.registration.register",
    "train": "atlaseg.workflows.scripting",
    "validation_scans": "atlaseg.workflows.inputs.scan_files",
    "warp": "atlaseg.workflows.scripting",
    "write_transform": "atlaseg.atlases.registration.transforms.transform_files",
}


def __getattr__(name: str) -> Any:
    """The object of that name, from the module it lives in."""
    if name == "__version__":
        from importlib.metadata import version

        return version("atlaseg")
    if name not in _HOMES:
        raise AttributeError(f"module 'atlaseg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What is here, also what has not been loaded yet."""
    return sorted({*globals(), *__all__})
