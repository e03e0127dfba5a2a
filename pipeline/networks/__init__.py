"""Networks by name: the table, and the networks that MONAI lacks.

Nothing is imported here: :mod:`atlaseg.pipeline.networks.registry` is light until a network is built, and
:mod:`atlaseg.pipeline.networks.fcn` needs torch at once.
"""
