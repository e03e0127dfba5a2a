"""Sliding window, mirroring, ensembling, and back to the scan's own grid in bounded memory.

:func:`~atlaseg.pipeline.inference.labelling.label_scan` is the way in. Nothing is imported here, because the
modules need torch.
"""
