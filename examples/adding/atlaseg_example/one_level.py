"""A network: convolutions at full resolution beside one level down."""

from typing import Any

from atlaseg.pipeline.networks.registry import NetworkRow, NetworkSize

ROW = NetworkRow(
    "one-level", "a U-Net of a single level, however many are planned", "atlaseg_example.one_level:component"
)


def component(size: NetworkSize) -> dict[str, Any]:
    """A component of a MONAI bundle: a class and its arguments, in plain data."""
    return {
        "_target_": "monai.networks.nets.UNet",
        **size.ports(),
        "channels": size.channels[:2],
        "strides": size.strides[:1],
        "dropout": size.dropout,
    }
