"""Segmentation methods of installed packages that belong to no family of atlaseg: one class each.

atlaseg has none of its own. A package adds one by an entry point of the group ``atlaseg.methods`` that names its row::

    ROW = WholeMethod("mean-label", "the most frequent label of each voxel", "my_package.mean_label:MeanLabel")

The class satisfies :class:`atlaseg.pipeline.segmenter.Segmenter`.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlaseg.pipeline.registry import METHODS, MethodRow, Registry

__all__ = ["WHOLE_METHODS", "WholeMethod"]


@dataclass(frozen=True)
class WholeMethod(MethodRow):
    """A method whose ``target`` is a class that learns, labels, saves and loads by itself."""


WHOLE_METHODS: Registry[WholeMethod] = Registry("method", WholeMethod, (), group=METHODS)
