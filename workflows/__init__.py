"""Whole jobs and the command line."""

import os
import sys

# `python -m workflows.cli` looks for modules in the current folder first, where anything may lie: a yaml.py would
# be run. Python calls a program "-m" while it is still looking for it, so nobody else's choice of paths is touched.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 (imports nothing)
    _home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    if sys.path[0] != _home:  # unless it is a checkout that is not installed
        del sys.path[0]
