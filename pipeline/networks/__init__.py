"""Networks by name: the table, and the networks that MONAI lacks.

Nothing is imported here: :mod:`pipeline.networks.table` is light until a network is built, and
:mod:`pipeline.networks.fcn` needs torch at once.
"""
