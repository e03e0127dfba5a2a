"""Table of the layouts of data sets."""

from __future__ import annotations

from dataclasses import dataclass

from atlaseg.pipeline.registry import Registry, Row

__all__ = ["LAYOUTS", "LayoutRow"]


@dataclass(frozen=True)
class LayoutRow(Row):
    """A layout; ``target`` is a :class:`atlaseg.pipeline.datasets.listing.Layout`.

    The summary names the files of such a folder, for the error message about a folder without a known layout.
    """


#: The first that recognises a folder reads it.
LAYOUTS: Registry[LayoutRow] = Registry(
    "layout",
    LayoutRow,
    (
        LayoutRow(
            "nnunet-raw",
            "a dataset.json with channel_names (nnU-Net)",
            "atlaseg.pipeline.datasets.nnunet_raw:LAYOUT",
            source="Isensee et al., Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z",
        ),
        LayoutRow(
            "decathlon",
            "a dataset.json with training (Medical Segmentation Decathlon)",
            "atlaseg.pipeline.datasets.decathlon:LAYOUT",
            source="Antonelli et al., Nature Communications 13, 2022, https://doi.org/10.1038/s41467-022-30695-9",
        ),
        LayoutRow(
            "folders",
            "folders images/ and labels/ with equal file names",
            "atlaseg.pipeline.datasets.folders:LAYOUT",
        ),
    ),
    group="atlaseg.layouts",
)
