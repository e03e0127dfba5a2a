"""Classical segmentation methods for volumes: one file each, a pure function and its options."""

from __future__ import annotations

from atlaseg.pipeline.classical.scan import Classes, Scan

__all__ = ["Classes", "Scan"]
