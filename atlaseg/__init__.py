"""Segment 3-D medical scans with trained networks, registered atlases and classical methods."""

import os
import sys

# `python -m atlaseg` looks for modules in the current folder first, where anything may lie: a yaml.py would be run.
# Python calls a program "-m" while it is still looking for it, so nobody else's choice of paths is touched.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 (imports nothing)
    del sys.path[0]
